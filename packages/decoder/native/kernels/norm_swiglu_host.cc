#include "dot_products.hpp"
#include "norm_swiglu_args.h"
#include "normalize.hpp"
#include "silu.hpp"
#include "twin.hpp"

namespace {

/// Outputs i … i + kCount - 1 of a row: their products with gate and with up together.
template <uint64_t kCount, typename Element>
SPILLWAY_INLINE void gated_dots(const NormSwigluArgs& a, uint64_t row, float factor, uint64_t i) {
  const uint64_t inputs = a.inputs, ffn = a.ffn;
  const Element* weights[2 * kCount];
  for (uint64_t j = 0; j < 2 * kCount; ++j) {
    const uint64_t n = j < kCount ? i + j : ffn + i + j - kCount;
    weights[j] = static_cast<const Element*>(a.weight) + n * inputs;
  }
  float results[2 * kCount][1];
  const WeighedActivations<Element> x = {a.x + row * inputs, static_cast<const Element*>(a.norm)};
  dot_products(x, weights, kCount * inputs, inputs, results);
  float* y = a.y + row * ffn + i;
  for (uint64_t j = 0; j < kCount; ++j) {
    const Lanes gate = broadcast(results[j][0] * factor);
    y[j] = silu(gate)[0] * (results[kCount + j][0] * factor);
  }
}

/// One row at a time, for one is what it is used for.
template <typename Element>
void norm_swiglu(const spillway_twin_context* context, const NormSwigluArgs& a) {
  const uint64_t inputs = a.inputs, ffn = a.ffn, groups = divide_up(ffn, 2);
  parallel_for(context, groups, grain_of(inputs * a.rows * 4 / kLanes), [&](uint64_t begin, uint64_t end) {
    for (uint64_t row = 0; row < a.rows; ++row) {
      // In each piece anew: little beside the rest of it.
      const float factor = norm_factor(a.x + row * inputs, inputs, a.epsilon);
      for (uint64_t group = begin; group < end; ++group) {
        const uint64_t i = group * 2;
        if (i + 2 <= ffn) {
          gated_dots<2, Element>(a, row, factor, i);
        } else {
          gated_dots<1, Element>(a, row, factor, i);
        }
      }
    }
  });
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void norm_swiglu_f32(const spillway_twin_context* context, const void* arguments) {
  norm_swiglu<float>(context, *static_cast<const NormSwigluArgs*>(arguments));
}
void norm_swiglu_f16(const spillway_twin_context* context, const void* arguments) {
  norm_swiglu<Float16>(context, *static_cast<const NormSwigluArgs*>(arguments));
}
void norm_swiglu_bf16(const spillway_twin_context* context, const void* arguments) {
  norm_swiglu<BFloat16>(context, *static_cast<const NormSwigluArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
