// embedding, rms_norm, rope_append, silu_mul, narrow.
#include "cases.hpp"
#include "harness.cuh"

namespace spillway::cuda_test {
namespace {

template <typename Element>
void test_embedding(Kernels& kernels, Verdict& verdict) {
  for (const uint32_t hidden : {1u, 7u, 64u, 4096u, 4099u}) {
    for (const uint32_t rows : {1u, 3u, 9u}) {
      const uint32_t vocabulary = 100;
      Buffer<Element> table(size_t{vocabulary} * hidden, 1);
      table.upload(random_values<Element>(table.size()));
      std::vector<int32_t> chosen = {99, -1, 0, 100, 17, 2147483647, -2147483647 - 1, 3, 5};
      chosen.resize(rows);
      Buffer<int32_t> tokens(rows);
      tokens.upload(chosen);
      Buffer<float> y(size_t{rows} * hidden);
      EmbeddingArgs a{tokens.data(), table.data(), y.data(), rows, vocabulary, hidden, 0};
      const std::string name =
          std::string(dtype_name<Element>()) + " " + std::to_string(rows) + "x" + std::to_string(hidden);
      const auto out = run_twice(verdict, name, y, [&] {
        kernels.launch(std::string("embedding_") + dtype_name<Element>(), embedding_shape(a), a);
      });
      const Element* from = table.data();
      const int32_t* token = tokens.data();
      verdict.compare("embedding", name, widened(out, kExact),
                      reference(out.size(),
                                [=] __device__(uint64_t i) -> double {
                                  const int32_t t = token[i / hidden];
                                  return t < 0 || t >= 100 ? nan("") : widen(from[uint64_t(t) * hidden + i % hidden]);
                                }),
                      0);
    }
  }
}

template <typename Element>
void test_rms_norm(Kernels& kernels, Verdict& verdict) {
  for (const uint32_t hidden : {1u, 3u, 64u, 129u, 4096u, 4099u, 14336u}) {
    for (const uint32_t rows : {1u, 2u, 9u}) {
      for (const uint32_t shift : {0u, 1u}) {
        Buffer<float> x(size_t{rows} * hidden, shift), y(size_t{rows} * hidden, shift);
        Buffer<Element> weight(hidden, shift);
        x.upload(random_values<float>(x.size(), 3));
        weight.upload(random_values<Element>(hidden));
        RmsNormArgs a{x.data(), weight.data(), y.data(), rows, hidden, 1e-5f, 0};
        const std::string name =
            std::string(dtype_name<Element>()) + " " + std::to_string(rows) + "x" + std::to_string(hidden);
        const auto out = run_twice(verdict, name, y, [&] {
          kernels.launch(std::string("rms_norm_") + dtype_name<Element>(), rms_norm_shape(a), a);
        });
        verdict.compare("rms_norm", name, widened(out, kExact),
                        reference(out.size(),
                                  [=] __device__(uint64_t i) -> double {
                                    const float* row = a.x + i / hidden * hidden;
                                    double sum = 0;
                                    for (uint32_t k = 0; k < hidden; ++k) sum += double(row[k]) * row[k];
                                    return row[i % hidden] / sqrt(sum / hidden + double(a.epsilon)) *
                                           widen(static_cast<const Element*>(a.weight)[i % hidden]);
                                  }),
                        1e-6);
      }
    }
  }
}

template <typename Element>
void test_rope_append(Kernels& kernels, Verdict& verdict) {
  struct Shape {
    uint32_t heads, key_value_heads, head_dim;
  };
  for (const Shape s : {Shape{4, 1, 128}, Shape{8, 8, 64}, Shape{3, 1, 2}, Shape{6, 2, 80}, Shape{2, 2, 256}}) {
    for (const uint32_t rows : {1u, 2u, 9u}) {
      for (const int32_t position : {0, 2040, 2047, -3}) {
        const uint32_t context = 2049, half = s.head_dim / 2;
        const size_t q_width = size_t{s.heads} * s.head_dim, kv_width = size_t{s.key_value_heads} * s.head_dim;
        const size_t width = q_width + 2 * kv_width;
        Buffer<float> qkv(rows * width), frequency(half), before(rows * width);
        Buffer<int32_t> at(1);
        Buffer<Element> keys(context * kv_width), values(context * kv_width);
        const auto input = random_values<float>(rows * width);
        before.upload(input);
        at.upload({position});
        std::vector<float> frequencies(half);
        for (uint32_t i = 0; i < half; ++i) frequencies[i] = static_cast<float>(std::pow(5e5, -2.0 * i / s.head_dim));
        frequency.upload(frequencies);
        RopeAppendArgs a{qkv.data(), at.data(),         frequency.data(), keys.data(), values.data(), rows,
                         s.heads,    s.key_value_heads, s.head_dim,       context,     0.75f};
        const std::string name = std::string(dtype_name<Element>()) + " heads " + std::to_string(s.heads) + "/" +
                                 std::to_string(s.key_value_heads) + "x" + std::to_string(s.head_dim) + " rows " +
                                 std::to_string(rows) + " at " + std::to_string(position);
        const auto run = [&] {
          qkv.upload(input);
          kernels.launch(std::string("rope_append_") + dtype_name<Element>(), rope_append_shape(a), a);
        };
        run_twice(verdict, name, keys, run);
        const auto stored_values = run_twice(verdict, name, values, run);
        const auto rotated = qkv.download();
        const auto stored_keys = keys.download();
        const float* from = before.data();
        const float* inverse = frequency.data();
        const uint32_t dim = s.head_dim;
        const auto wanted = reference(rows * width, [=] __device__(uint64_t i) -> double {
          const uint64_t row = i / width, d = i % width % dim;
          if (i % width >= q_width + kv_width) return from[i];
          const float angle = static_cast<float>(position + int64_t(row)) * inverse[d % half];
          const double c = cos(double(angle)) * 0.75, n = sin(double(angle)) * 0.75;
          return d < half ? from[i] * c - from[i + half] * n : from[i] * c + from[i - half] * n;
        });
        std::vector<double> q_out, q_wanted, k_out, k_wanted, v_out, v_wanted;
        for (uint32_t row = 0; row < rows; ++row) {
          for (size_t i = 0; i < q_width; ++i)
            q_out.push_back(rotated[row * width + i]), q_wanted.push_back(wanted[row * width + i]);
        }
        for (int64_t p = 0; p < context; ++p) {
          const int64_t row = p - position;
          const bool written = row >= 0 && row < rows;
          for (size_t i = 0; i < kv_width; ++i) {
            k_out.push_back(exact(stored_keys[p * kv_width + i]));
            v_out.push_back(exact(stored_values[p * kv_width + i]));
            k_wanted.push_back(written ? wanted[row * width + q_width + i] : NAN);
            v_wanted.push_back(written ? exact(rounded<Element>(wanted[row * width + q_width + kv_width + i])) : NAN);
          }
        }
        verdict.compare("rope_append q", name, q_out, q_wanted, 1e-6);
        const double limit = sizeof(Element) == 4 ? 1e-6 : std::is_same_v<Element, Float16> ? 5e-4 : 4e-3;
        verdict.compare(std::string("rope_append k ") + dtype_name<Element>(), name, k_out, k_wanted, limit);
        verdict.compare("rope_append v", name, v_out, v_wanted, 0);
      }
    }
  }
}

void test_silu_mul(Kernels& kernels, Verdict& verdict) {
  for (const uint32_t ffn : {1u, 7u, 64u, 14336u, 14339u}) {
    for (const uint32_t rows : {1u, 5u}) {
      Buffer<float> gate_up(size_t{rows} * 2 * ffn), y(size_t{rows} * ffn);
      auto input = random_values<float>(gate_up.size(), 4);
      input[0] = -80;
      gate_up.upload(input);
      SiluMulArgs a{gate_up.data(), y.data(), rows, ffn};
      const std::string name = std::to_string(rows) + "x" + std::to_string(ffn);
      const auto out = run_twice(verdict, name, y, [&] { kernels.launch("silu_mul", silu_mul_shape(a), a); });
      verdict.compare("silu_mul", name, widened(out, kExact),
                      reference(out.size(),
                                [=] __device__(uint64_t i) -> double {
                                  const double gate = a.gate_up[i / ffn * 2 * ffn + i % ffn];
                                  return gate / (1 + exp(-gate)) * a.gate_up[i / ffn * 2 * ffn + ffn + i % ffn];
                                }),
                      1e-6);
    }
  }
}

template <typename Element>
void test_narrow(Kernels& kernels, Verdict& verdict) {
  for (const size_t count : {size_t{1}, size_t{7}, size_t{4096}, size_t{100003}}) {
    for (const size_t shift : {0, 1}) {
      Buffer<float> x(count, shift);
      Buffer<Element> y(count, shift);
      auto input = random_values<float>(count, 1e3);
      if (count > 4) input[1] = INFINITY, input[2] = 1e-30f, input[3] = 7e4f;
      x.upload(input);
      NarrowArgs a{x.data(), y.data(), count};
      const std::string name = std::string(dtype_name<Element>()) + " " + std::to_string(count);
      const auto out = run_twice(verdict, name, y, [&] {
        kernels.launch(std::string("narrow_") + dtype_name<Element>(), narrow_shape(a), a);
      });
      std::vector<Element> wanted(count);
      for (size_t i = 0; i < count; ++i) wanted[i] = rounded<Element>(input[i]);
      verdict.require("narrow", name, std::memcmp(out.data(), wanted.data(), count * sizeof(Element)) == 0);
    }
  }
}

}  // namespace

void test_elements(Kernels& kernels, Verdict& verdict) {
  test_embedding<float>(kernels, verdict);
  test_embedding<Float16>(kernels, verdict);
  test_embedding<BFloat16>(kernels, verdict);
  test_rms_norm<float>(kernels, verdict);
  test_rms_norm<Float16>(kernels, verdict);
  test_rms_norm<BFloat16>(kernels, verdict);
  test_rope_append<float>(kernels, verdict);
  test_rope_append<Float16>(kernels, verdict);
  test_rope_append<BFloat16>(kernels, verdict);
  test_silu_mul(kernels, verdict);
  test_narrow<Float16>(kernels, verdict);
  test_narrow<BFloat16>(kernels, verdict);
}

}  // namespace spillway::cuda_test
