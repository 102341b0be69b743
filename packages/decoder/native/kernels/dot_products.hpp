// Dot products of a few rows of activations with a few rows of a weight, for the host twins: bound by reading the
// weight, which is read once, in its own order.
#pragma once

#include "lanes.hpp"

namespace {

/// Rows of `inputs` activations.
struct Activations {
  const float* x;
  uint64_t inputs;

  SPILLWAY_INLINE Lanes load(uint64_t row, uint64_t k) const { return ::load(x + row * inputs + k); }
  SPILLWAY_INLINE Lanes load_partial(uint64_t row, uint64_t k, uint64_t count) const {
    return ::load_partial(x + row * inputs + k, count);
  }
};

/// One row, times the weight of its norm. What the norm divides by is the same for all inputs: the sums are divided.
template <typename Element>
struct WeighedActivations {
  const float* x;
  const Element* norm;

  SPILLWAY_INLINE Lanes load(uint64_t, uint64_t k) const { return ::load(x + k) * ::load(norm + k); }
  SPILLWAY_INLINE Lanes load_partial(uint64_t, uint64_t k, uint64_t count) const {
    return ::load_partial(x + k, count) * ::load_partial(norm + k, count);
  }
};

/// results[j][r] = activations r · weights[j]: each weight vector is loaded and widened once for all rows. The weights
/// that are read next begin `next` elements further.
template <uint64_t kRows, uint64_t kOutputs, typename X, typename Element>
SPILLWAY_INLINE void dot_products(const X& x, const Element* const (&weights)[kOutputs], uint64_t next, uint64_t inputs,
                                  float (&results)[kOutputs][kRows]) {
  // Two chains for each sum where there are few, or a multiply-add would wait for the one before it.
  constexpr uint64_t kChains = kRows * kOutputs < 8 ? 2 : 1;
  Lanes sums[kChains][kOutputs][kRows] = {};
  uint64_t k = 0;
  for (; k + kChains * kLanes <= inputs; k += kChains * kLanes) {
#pragma GCC unroll 2
    for (uint64_t c = 0; c < kChains; ++c) {
      Lanes activations[kRows];
#pragma GCC unroll 4
      for (uint64_t r = 0; r < kRows; ++r) activations[r] = x.load(r, k + c * kLanes);
#pragma GCC unroll 4
      for (uint64_t j = 0; j < kOutputs; ++j) {
        const Lanes weight = load(weights[j] + k + c * kLanes);
        // The processor's own prefetcher stops at the end of a page, which is one or two rows of a 16-bit weight. The
        // next group's rows into the second-level cache: +25 % for those, nothing to gain for f32 (measured).
        if (sizeof(Element) == 2 && c == 0) __builtin_prefetch(weights[j] + next + k, 0, 2);
#pragma GCC unroll 4
        for (uint64_t r = 0; r < kRows; ++r) sums[c][j][r] += weight * activations[r];
      }
    }
  }
  for (; k < inputs; k += kLanes) {
    const uint64_t count = smaller(kLanes, inputs - k);
    for (uint64_t j = 0; j < kOutputs; ++j) {
      const Lanes weight = load_partial(weights[j] + k, count);
      for (uint64_t r = 0; r < kRows; ++r) sums[0][j][r] += weight * x.load_partial(r, k, count);
    }
  }
  for (uint64_t j = 0; j < kOutputs; ++j) {
    for (uint64_t r = 0; r < kRows; ++r) {
      results[j][r] = sum(kChains == 2 ? sums[0][j][r] + sums[kChains - 1][j][r] : sums[0][j][r]);
    }
  }
}

}  // namespace
