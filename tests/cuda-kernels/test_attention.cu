// attention_* and attention_tiles_*: each for any number of rows, also those it is not chosen for.
#include "cases.hpp"
#include "harness.cuh"

namespace spillway::cuda_test {
namespace {

struct Case {
  uint32_t rows, heads, key_value_heads, head_dim, context;
  int32_t position;
  uint32_t shift;     // elements behind a 16-byte boundary
  bool later_is_nan;  // what the last row wrote into the cache is NaN and infinity: no earlier row may notice
};

template <typename Element>
void test_case(Kernels& kernels, Verdict& verdict, AttentionEntry entry, const Case& c) {
  const size_t width = (size_t{c.heads} + 2 * c.key_value_heads) * c.head_dim;
  const size_t cache_width = size_t{c.key_value_heads} * c.head_dim;
  Buffer<float> qkv(c.rows * width), y(size_t{c.rows} * c.heads * c.head_dim);
  Buffer<Element> keys(c.context * cache_width, c.shift), values(c.context * cache_width, c.shift);
  Buffer<int32_t> position(1);
  qkv.upload(random_values<float>(qkv.size()));
  position.upload({c.position});
  auto k = random_values<Element>(keys.size()), v = random_values<Element>(values.size());
  const int64_t last = int64_t{c.position} + c.rows - 1;
  for (int64_t p = last + 1; p < c.context; ++p) {
    // Behind what any row sees lies what nothing may read: NaN would show.
    for (size_t i = 0; i < cache_width; ++i) k[p * cache_width + i] = v[p * cache_width + i] = rounded<Element>(NAN);
  }
  if (c.later_is_nan && last >= 0 && last < c.context) {
    for (size_t i = 0; i < cache_width; ++i) {
      k[last * cache_width + i] = rounded<Element>(i % 2 ? NAN : INFINITY);
      v[last * cache_width + i] = rounded<Element>(i % 2 ? INFINITY : NAN);
    }
  }
  keys.upload(k);
  values.upload(v);
  AttentionArgs a{qkv.data(),
                  position.data(),
                  keys.data(),
                  values.data(),
                  y.data(),
                  c.rows,
                  c.heads,
                  c.key_value_heads,
                  c.head_dim,
                  c.context,
                  static_cast<float>(1 / std::sqrt(double(c.head_dim)))};
  const std::string name = std::to_string(c.rows) + " rows at " + std::to_string(c.position) + " of " +
                           std::to_string(c.context) + ", heads " + std::to_string(c.heads) + "/" +
                           std::to_string(c.key_value_heads) + "x" + std::to_string(c.head_dim) +
                           (c.shift ? " shifted" : "") + (c.later_is_nan ? " later NaN" : "");
  const std::string kernel =
      std::string(entry == AttentionEntry::kSplit ? "attention_" : "attention_tiles_") + dtype_name<Element>();
  const auto out =
      run_twice(verdict, kernel + " " + name, y, [&] { kernels.launch(kernel, attention_shape(a, entry), a); });
  const int32_t first_position = c.position;
  const uint32_t later = c.later_is_nan ? c.rows - 1 : c.rows;
  const auto wanted = reference(out.size(), [=] __device__(uint64_t i) -> double {
    const uint64_t row = i / (uint64_t(a.heads) * a.head_dim), head = i / a.head_dim % a.heads, d = i % a.head_dim;
    const int64_t at = first_position + int64_t(row);
    if (at < 0 || at >= a.context || row >= later) return nan("");
    const uint64_t group = a.heads / a.key_value_heads;
    const uint64_t qkv_width = (uint64_t(a.heads) + 2 * a.key_value_heads) * a.head_dim;
    const uint64_t cache = uint64_t(a.key_value_heads) * a.head_dim, column = head / group * a.head_dim;
    const float* q = a.qkv + row * qkv_width + head * a.head_dim;
    double total = 0, sum = 0;
    for (int64_t p = 0; p <= at; ++p) {
      const Element* key = static_cast<const Element*>(a.keys) + p * cache + column;
      double score = 0;
      for (uint32_t j = 0; j < a.head_dim; ++j) score += double(q[j]) * double(widen(key[j]));
      const double power = exp(score * double(a.scale));  // scores are small: no maximum needed in float64
      total += power;
      sum += power * double(widen(static_cast<const Element*>(a.values)[p * cache + column + d]));
    }
    return sum / total;
  });
  verdict.compare(kernel, name, widened(out, kExact), wanted, 5e-6);
}

template <typename Element>
void test_dtype(Kernels& kernels, Verdict& verdict, bool few) {
  struct Heads {
    uint32_t heads, key_value_heads;
  };
  const std::vector<Heads> all_heads = {{4, 4}, {8, 2}, {8, 1}, {6, 2}};
  const std::vector<uint32_t> all_dims = {64, 128, 8, 80, 256, 33};
  const std::vector<uint32_t> split_rows = {1, 1, 2, 9, 1, 3, 17}, tile_rows = {1, 9, 16, 17, 64, 65, 130};
  const std::vector<uint32_t> contexts = {1, 2, 31, 33, 64, 129, 500, 1024, 2049};
  for (const AttentionEntry entry : {AttentionEntry::kSplit, AttentionEntry::kTiles}) {
    const auto& rows_of = entry == AttentionEntry::kSplit ? split_rows : tile_rows;
    uint32_t number = 0;
    for (const uint32_t context : contexts) {
      for (const uint32_t head_dim : all_dims) {
        const uint32_t i = number++;
        if (few && (i % 7 != 2 || context > 600)) continue;
        const Heads h = all_heads[(i + i / 4) % 4];
        const uint32_t rows = rows_of[(i + i / 7) % 7];
        // Full to the last place, half full, some rows behind the end, some before the start.
        const int32_t full = static_cast<int32_t>(context) - static_cast<int32_t>(rows);
        const int32_t positions[] = {full, full / 2, full + 1, -1, 0};
        test_case<Element>(
            kernels, verdict, entry,
            {rows, h.heads, h.key_value_heads, head_dim, context, positions[i % 5], i % 4 == 3, i % 6 == 5});
      }
    }
    if (few) continue;
    for (const uint32_t head_dim : {64u, 128u}) {
      for (const Heads h : all_heads) {
        for (const uint32_t rows : rows_of) {
          test_case<Element>(
              kernels, verdict, entry,
              {rows, h.heads, h.key_value_heads, head_dim, 2049, 2049 - static_cast<int32_t>(rows), 0, rows > 9});
        }
      }
    }
  }
}

}  // namespace

void test_attention(Kernels& kernels, Verdict& verdict, bool few) {
  test_dtype<float>(kernels, verdict, few);
  test_dtype<Float16>(kernels, verdict, few);
  test_dtype<BFloat16>(kernels, verdict, few);
}

}  // namespace spillway::cuda_test
