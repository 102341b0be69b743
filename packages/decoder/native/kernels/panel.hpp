// Matrix product by panels, for the host twins: what linear and attention share.
//
// A panel holds kPanel rows of a matrix (outputs of a weight, positions of a cache), transposed and widened to f32, so
// that one step of depth is two vector loads, and every product of them is one multiply-add for each row of x. The
// register tile is the one of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
#pragma once

#include "lanes.hpp"

namespace {

constexpr uint64_t kPanel = 2 * kLanes;
// Rows of x worked on at once: twice as many accumulators, which must all fit into the registers.
#if defined(__AVX512F__)
constexpr uint64_t kTileRows = 12;
#elif defined(__AVX2__)
constexpr uint64_t kTileRows = 6;
#else
constexpr uint64_t kTileRows = 4;
#endif

/// Swaps the off-diagonal quarters of every block of 2·kStep lanes; over all powers of two this transposes.
template <int32_t kStep, int32_t... kLane>
SPILLWAY_INLINE void transpose_step(Lanes (&rows)[kLanes]) {
  constexpr int32_t kCount = kLanes;
#pragma GCC unroll 16
  for (int32_t i = 0; i < kCount; ++i) {
    if ((i & kStep) != 0) continue;
    const Lanes upper = rows[i], lower = rows[i + kStep];
    rows[i] = SPILLWAY_SHUFFLE(upper, lower, ((kLane & kStep) != 0 ? kCount + kLane - kStep : kLane)...);
    rows[i + kStep] = SPILLWAY_SHUFFLE(upper, lower, ((kLane & kStep) != 0 ? kCount + kLane : kLane + kStep)...);
  }
}

SPILLWAY_INLINE void transpose(Lanes (&rows)[kLanes]) {
  if constexpr (kLanes > 8) transpose_step<8, SPILLWAY_LANE_NUMBERS>(rows);
  if constexpr (kLanes > 4) transpose_step<4, SPILLWAY_LANE_NUMBERS>(rows);
  transpose_step<2, SPILLWAY_LANE_NUMBERS>(rows);
  transpose_step<1, SPILLWAY_LANE_NUMBERS>(rows);
}

/// panel[k · kPanel + j] = matrix[j · stride + k] for j < rows, k < depth; zero for j in [rows, kPanel).
template <typename Element>
void pack_panel(const Element* matrix, uint64_t stride, uint64_t rows, uint64_t depth, float* panel) {
  for (uint64_t first = 0; first < kPanel; first += kLanes) {
    for (uint64_t k = 0; k < depth; k += kLanes) {
      const uint64_t steps = smaller(kLanes, depth - k);
      Lanes block[kLanes];
#pragma GCC unroll 16
      for (uint64_t j = 0; j < kLanes; ++j) {
        const Element* from = matrix + (first + j) * stride + k;
        block[j] = first + j >= rows ? Lanes{} : steps == kLanes ? load(from) : load_partial(from, steps);
      }
      transpose(block);
      float* to = panel + k * kPanel + first;
      if (steps == kLanes) {
#pragma GCC unroll 16
        for (uint64_t i = 0; i < kLanes; ++i) store(to + i * kPanel, block[i]);
      } else {
        for (uint64_t i = 0; i < steps; ++i) store(to + i * kPanel, block[i]);
      }
    }
  }
}

/// panel[k · kPanel + j] = matrix[k · stride + j] for k < depth, j < columns; zero for j in [columns, kPanel).
template <typename Element>
void widen_panel(const Element* matrix, uint64_t stride, uint64_t depth, uint64_t columns, float* panel) {
  for (uint64_t k = 0; k < depth; ++k) {
    for (uint64_t j = 0; j < kPanel; j += kLanes) {
      const Element* from = matrix + k * stride + j;
      const uint64_t count = j >= columns ? 0 : smaller(kLanes, columns - j);
      store(panel + k * kPanel + j, count == kLanes ? load(from) : load_partial(from, count));
    }
  }
}

template <uint64_t kRows>
SPILLWAY_INLINE void multiply_rows(const float* x, uint64_t x_stride, const float* panel, uint64_t depth, float* tile) {
  Lanes left[kRows] = {}, right[kRows] = {};
  for (uint64_t k = 0; k < depth; ++k) {
    const Lanes panel_left = load(panel + k * kPanel), panel_right = load(panel + k * kPanel + kLanes);
#pragma GCC unroll 16
    for (uint64_t r = 0; r < kRows; ++r) {
      const Lanes value = broadcast(x[r * x_stride + k]);
      left[r] += value * panel_left;
      right[r] += value * panel_right;
    }
  }
#pragma GCC unroll 16
  for (uint64_t r = 0; r < kRows; ++r) {
    store(tile + r * kPanel, left[r]);
    store(tile + r * kPanel + kLanes, right[r]);
  }
}

/// tile[r · kPanel + j] = sum over k < depth of x[r · x_stride + k] · panel[k · kPanel + j], for 1 … kTileRows rows.
inline void multiply_panel(uint64_t rows, const float* x, uint64_t x_stride, const float* panel, uint64_t depth,
                           float* tile) {
  switch (rows) {
    case 1:
      return multiply_rows<1>(x, x_stride, panel, depth, tile);
    case 2:
      return multiply_rows<2>(x, x_stride, panel, depth, tile);
    case 3:
      return multiply_rows<3>(x, x_stride, panel, depth, tile);
    case 4:
      return multiply_rows<4>(x, x_stride, panel, depth, tile);
#if defined(__AVX2__)
    case 5:
      return multiply_rows<5>(x, x_stride, panel, depth, tile);
    case 6:
      return multiply_rows<6>(x, x_stride, panel, depth, tile);
#endif
#if defined(__AVX512F__)
    case 7:
      return multiply_rows<7>(x, x_stride, panel, depth, tile);
    case 8:
      return multiply_rows<8>(x, x_stride, panel, depth, tile);
    case 9:
      return multiply_rows<9>(x, x_stride, panel, depth, tile);
    case 10:
      return multiply_rows<10>(x, x_stride, panel, depth, tile);
    case 11:
      return multiply_rows<11>(x, x_stride, panel, depth, tile);
    case 12:
      return multiply_rows<12>(x, x_stride, panel, depth, tile);
#endif
    default:
      return;
  }
}

}  // namespace
