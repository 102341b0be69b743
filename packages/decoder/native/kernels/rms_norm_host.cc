#include "rms_norm_args.h"
#include "twin.hpp"

namespace {

SPILLWAY_INLINE float sum_of_squares(const float* x, uint64_t count) {
  // Four chains: an add need not wait for the one before it.
  Lanes sums[4] = {};
  uint64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (uint64_t c = 0; c < 4; ++c) {
      const Lanes value = load(x + i + c * kLanes);
      sums[c] += value * value;
    }
  }
  for (; i < count; i += kLanes) {
    const Lanes value = load_partial(x + i, smaller(kLanes, count - i));
    sums[0] += value * value;
  }
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <typename Element>
void rms_norm(const spillway_twin_context* context, const RmsNormArgs& a) {
  const auto* weight = static_cast<const Element*>(a.weight);
  const uint64_t hidden = a.hidden;
  parallel_for(context, a.rows, grain_of(3 * hidden / kLanes), [&](uint64_t begin, uint64_t end) {
    for (uint64_t row = begin; row < end; ++row) {
      const float* x = a.x + row * hidden;
      float* y = a.y + row * hidden;
      const float mean = sum_of_squares(x, hidden) / static_cast<float>(hidden);
      const Lanes factor = broadcast(1.0f / __builtin_sqrtf(mean + a.epsilon));
      uint64_t i = 0;
      for (; i + kLanes <= hidden; i += kLanes) store(y + i, load(x + i) * factor * load(weight + i));
      if (i < hidden) {
        const uint64_t count = hidden - i;
        store_partial(y + i, load_partial(x + i, count) * factor * load_partial(weight + i, count), count);
      }
    }
  });
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void rms_norm_f32(const spillway_twin_context* context, const void* arguments) {
  rms_norm<float>(context, *static_cast<const RmsNormArgs*>(arguments));
}
void rms_norm_f16(const spillway_twin_context* context, const void* arguments) {
  rms_norm<Float16>(context, *static_cast<const RmsNormArgs*>(arguments));
}
void rms_norm_bf16(const spillway_twin_context* context, const void* arguments) {
  rms_norm<BFloat16>(context, *static_cast<const RmsNormArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
