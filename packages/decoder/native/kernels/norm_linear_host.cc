#include "dot_products.hpp"
#include "norm_linear_args.h"
#include "normalize.hpp"
#include "twin.hpp"

namespace {

template <uint64_t kOutputs, typename Element>
SPILLWAY_INLINE void norm_dots(const NormLinearArgs& a, uint64_t row, float factor, uint64_t n) {
  const uint64_t inputs = a.inputs;
  const auto* bias = static_cast<const Element*>(a.bias);
  const Element* weights[kOutputs];
  for (uint64_t j = 0; j < kOutputs; ++j) weights[j] = static_cast<const Element*>(a.weight) + (n + j) * inputs;
  float results[kOutputs][1];
  const WeighedActivations<Element> x = {a.x + row * inputs, static_cast<const Element*>(a.norm)};
  dot_products(x, weights, kOutputs * inputs, inputs, results);
  float* y = a.y + row * a.outputs + n;
  for (uint64_t j = 0; j < kOutputs; ++j) y[j] = results[j][0] * factor + (bias ? widen(bias[n + j]) : 0.0f);
}

/// One row at a time, for one is what it is used for.
template <typename Element>
void norm_linear(const spillway_twin_context* context, const NormLinearArgs& a) {
  const uint64_t inputs = a.inputs, outputs = a.outputs, groups = divide_up(outputs, 4);
  parallel_for(context, groups, grain_of(inputs * a.rows * 4 / kLanes), [&](uint64_t begin, uint64_t end) {
    for (uint64_t row = 0; row < a.rows; ++row) {
      // In each piece anew: little beside the rest of it.
      const float factor = norm_factor(a.x + row * inputs, inputs, a.epsilon);
      for (uint64_t group = begin; group < end; ++group) {
        const uint64_t n = group * 4;
        if (n + 4 <= outputs) {
          norm_dots<4, Element>(a, row, factor, n);
        } else {
          for (uint64_t j = n; j < outputs; ++j) norm_dots<1, Element>(a, row, factor, j);
        }
      }
    }
  });
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void norm_linear_f32(const spillway_twin_context* context, const void* arguments) {
  norm_linear<float>(context, *static_cast<const NormLinearArgs*>(arguments));
}
void norm_linear_f16(const spillway_twin_context* context, const void* arguments) {
  norm_linear<Float16>(context, *static_cast<const NormLinearArgs*>(arguments));
}
void norm_linear_bf16(const spillway_twin_context* context, const void* arguments) {
  norm_linear<BFloat16>(context, *static_cast<const NormLinearArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
