// Root mean square normalization of one vector, for the host twins (Zhang and Sennrich, 2019).
#pragma once

#include "lanes.hpp"

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

/// 1 / sqrt(mean(x²) + epsilon).
SPILLWAY_INLINE float norm_factor(const float* x, uint64_t count, float epsilon) {
  return 1.0f / __builtin_sqrtf(sum_of_squares(x, count) / static_cast<float>(count) + epsilon);
}

/// y = x / sqrt(mean(x²) + epsilon) · weight. y may be x.
template <typename Element>
SPILLWAY_INLINE void normalize(const float* x, const Element* weight, float* y, uint64_t count, float epsilon) {
  const Lanes factor = broadcast(norm_factor(x, count, epsilon));
  uint64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, load(x + i) * factor * load(weight + i));
  if (i < count) {
    const uint64_t rest = count - i;
    store_partial(y + i, load_partial(x + i, rest) * factor * load_partial(weight + i, rest), rest);
  }
}

}  // namespace
