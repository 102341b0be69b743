// linear_*, linear_few_* and linear_tiles_*: each is right for any number of rows, also those it is not chosen for.
#include "cases.hpp"
#include "harness.cuh"

namespace spillway::cuda_test {
namespace {

struct Case {
  uint32_t rows, inputs, outputs;
  bool bias, accumulate;
  uint32_t shift;  // elements behind a 16-byte boundary
};

const char* entry_name(LinearEntry entry) {
  return entry == LinearEntry::kVector ? "linear" : entry == LinearEntry::kFew ? "linear_few" : "linear_tiles";
}

template <typename Element>
void test_case(Kernels& kernels, Verdict& verdict, LinearEntry entry, const Case& c) {
  Buffer<float> x(size_t{c.rows} * c.inputs, c.shift), y(size_t{c.rows} * c.outputs, c.shift), before(y.size());
  Buffer<Element> weight(size_t{c.outputs} * c.inputs, c.shift), bias(c.outputs, c.shift);
  x.upload(random_values<float>(x.size()));
  weight.upload(random_values<Element>(weight.size()));
  bias.upload(random_values<Element>(c.outputs));
  const auto held = random_values<float>(y.size(), 10);
  before.upload(held);
  LinearArgs a{x.data(), weight.data(), c.bias ? bias.data() : nullptr, y.data(), c.rows,
               c.inputs, c.outputs,     c.accumulate ? 1u : 0u};
  const std::string name = std::to_string(c.rows) + "x" + std::to_string(c.inputs) + " to " +
                           std::to_string(c.outputs) + (c.bias ? " bias" : "") + (c.accumulate ? " accumulate" : "") +
                           (c.shift ? " shifted" : "");
  const std::string kernel = std::string(entry_name(entry)) + "_" + dtype_name<Element>();
  const auto out = run_twice(verdict, kernel + " " + name, y, [&] {
    if (c.accumulate) y.upload(held);
    kernels.launch(kernel, linear_shape(a, entry, storage_of<Element>()), a);
  });
  const float* held_before = before.data();
  const auto wanted = reference(out.size(), [=] __device__(uint64_t i) -> double {
    const float* row = a.x + i / a.outputs * a.inputs;
    const Element* w = static_cast<const Element*>(a.weight) + i % a.outputs * a.inputs;
    double sum = a.bias ? widen(static_cast<const Element*>(a.bias)[i % a.outputs]) : 0;
    for (uint32_t k = 0; k < a.inputs; ++k) sum += double(row[k]) * double(widen(w[k]));
    return a.accumulate ? sum + held_before[i] : sum;
  });
  const bool rounds = entry == LinearEntry::kTiles && std::is_same_v<Element, BFloat16>;
  verdict.compare(kernel, name, widened(out, kExact), wanted, rounds ? 4e-3 : 2e-6);
}

template <typename Element>
void test_dtype(Kernels& kernels, Verdict& verdict, bool few) {
  const std::vector<uint32_t> all_inputs = {1, 7, 8, 33, 64, 100, 256, 1000, 1001, 4096};
  const std::vector<uint32_t> all_outputs = {1, 3, 8, 31, 33, 128, 129, 257};
  const std::map<LinearEntry, std::vector<uint32_t>> rows_of = {
      {LinearEntry::kVector, {1, 1, 1, 3}},
      {LinearEntry::kFew, {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 32}},
      {LinearEntry::kTiles, {1, 9, 17, 64, 127, 128, 129, 300}}};
  for (const auto& [entry, rows] : rows_of) {
    uint32_t number = 0;
    for (const uint32_t inputs : all_inputs) {
      for (const uint32_t outputs : all_outputs) {
        const uint32_t i = number++;
        if (few && i % 11 != 3) continue;
        test_case<Element>(
            kernels, verdict, entry,
            {rows[(i + i / rows.size()) % rows.size()], inputs, outputs, i % 3 == 1, i % 4 == 2, i % 5 == 4});
      }
    }
    if (few) continue;
    // Every number of rows once, and shapes of a model.
    for (const uint32_t r : rows) test_case<Element>(kernels, verdict, entry, {r, 512, 96, true, true, 0});
    test_case<Element>(kernels, verdict, entry, {rows.back(), 14336, 1000, false, true, 0});
    test_case<Element>(kernels, verdict, entry, {rows[0], 14336, 4096, false, false, 0});
    test_case<Element>(kernels, verdict, entry, {rows[0], 4096, 14336, true, false, 0});
  }
}

}  // namespace

void test_linear(Kernels& kernels, Verdict& verdict, bool few) {
  test_dtype<float>(kernels, verdict, few);
  test_dtype<Float16>(kernels, verdict, few);
  test_dtype<BFloat16>(kernels, verdict, few);
}

}  // namespace spillway::cuda_test
