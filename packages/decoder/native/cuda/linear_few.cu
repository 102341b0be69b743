// Few rows, 2 … 16: still bound by reading the weight once. The matrix units do the arithmetic, which for more than a
// row or two would take the ordinary ones longer than the reading; activations in parts keep nearly f32's precision.
#include "../kernels/linear_args.h"
#include "fragment.cuh"
#include "launch_shape.hpp"

namespace spillway::decoder::cuda {
namespace {

// Here outputs are a fragment's 16 rows, and rows of activations its 8 columns: half as many products for up to 8 rows.
constexpr uint32_t kOutputTiles = kFewOutputs / 16;
// Inputs that a warp takes at once, 8 for each lane.
constexpr uint32_t kFewStep = 32;

/// Each warp's share of the sums, [warp][row][output].
using Shares = float[kFewWarps][kFewRows][kFewOutputs];

/// kUnroll steps' weights are under way together.
template <typename Element, bool kAligned, uint32_t kRowTiles, uint32_t kUnroll>
struct LinearFew {
  using Sums = float[kOutputTiles][kRowTiles][4];

  const LinearArgs& a;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;

  /// 8 inputs of one row of activations times those of all outputs; `weights` of outputs g, g + 8, g + 16, ….
  static __device__ __forceinline__ void multiply(const float (&x)[8],
                                                  const Eight<Element> (&weights)[kOutputTiles * 2], uint32_t row_tile,
                                                  Sums& sums) {
#pragma unroll
    for (uint32_t i = 0; i < 8; i += 4) {
      if constexpr (std::is_same_v<Element, BFloat16>) {
        const Bf16Parts<3> first(x[i], x[i + 1]), second(x[i + 2], x[i + 3]);
#pragma unroll
        for (uint32_t t = 0; t < kOutputTiles; ++t) {
          const uint32_t* low = reinterpret_cast<const uint32_t*>(weights[2 * t].bits) + i / 2;
          const uint32_t* high = reinterpret_cast<const uint32_t*>(weights[2 * t + 1].bits) + i / 2;
          const uint32_t rows[4] = {low[0], high[0], low[1], high[1]};
#pragma unroll
          for (int32_t part = 2; part >= 0; --part) {
            multiply_bf16(sums[t][row_tile], rows, first[part], second[part]);
          }
        }
      } else {
#pragma unroll
        for (uint32_t t = 0; t < kOutputTiles; ++t) {
          const Eight<Element>&low = weights[2 * t], &high = weights[2 * t + 1];
          multiply_split_column<kExactInTf32<Element>>(sums[t][row_tile], {low[i], low[i + 1], low[i + 2], low[i + 3]},
                                                       {high[i], high[i + 1], high[i + 2], high[i + 3]},
                                                       {x[i], x[i + 1], x[i + 2], x[i + 3]});
        }
      }
    }
  }

  /// This warp's share of the inputs, of rows from first_row and outputs [n, n + kFewOutputs).
  __device__ __forceinline__ void add_products(uint64_t first_row, uint64_t n, Sums& sums) {
    const uint64_t inputs = a.inputs;
    const Element* weights[kOutputTiles * 2];
#pragma unroll
    for (uint32_t t = 0; t < kOutputTiles * 2; ++t) {
      const uint64_t output = n + t * 8 + g < a.outputs ? n + t * 8 + g : a.outputs - 1;
      weights[t] = static_cast<const Element*>(a.weight) + output * inputs;
    }
    // Rows beyond the last are computed as the last and not written.
    const float* x[kRowTiles];
#pragma unroll
    for (uint32_t r = 0; r < kRowTiles; ++r) {
      const uint64_t row = first_row + r * 8 + g < a.rows ? first_row + r * 8 + g : a.rows - 1;
      x[r] = a.x + row * inputs;
    }
    for (uint64_t base = warp * kFewStep; base < inputs; base += kFewWarps * kFewStep * kUnroll) {
      Eight<Element> bits[kUnroll][kOutputTiles * 2];
#pragma unroll
      for (uint32_t u = 0; u < kUnroll; ++u) {
        const uint64_t k = base + u * kFewWarps * kFewStep + q * 8;
#pragma unroll
        for (uint32_t t = 0; t < kOutputTiles * 2; ++t)
          bits[u][t] = load_eight<Source::kWeights, kAligned>(weights[t], k, inputs);
      }
      // The matrix units cut long sums off instead of rounding them: so each batch is summed from zero.
      Sums part = {};
#pragma unroll
      for (uint32_t u = 0; u < kUnroll; ++u) {
        const uint64_t k = base + u * kFewWarps * kFewStep + q * 8;
#pragma unroll
        for (uint32_t r = 0; r < kRowTiles; ++r) {
          float values[8];
          load_eight_floats<kAligned>(x[r], k, inputs, values);
          multiply(values, bits[u], r, part);
        }
      }
#pragma unroll
      for (uint32_t i = 0; i < kOutputTiles * kRowTiles * 4; ++i) (&sums[0][0][0])[i] += (&part[0][0][0])[i];
    }
  }

  __device__ __forceinline__ void run(Shares& shares) {
    const uint64_t n = uint64_t{blockIdx.x} * kFewOutputs;
    for (uint64_t first_row = uint64_t{blockIdx.y} * kFewRows; first_row < a.rows;
         first_row += uint64_t{gridDim.y} * kFewRows) {
      Sums sums = {};
      add_products(first_row, n, sums);
      __syncthreads();  // the rows before have been read
#pragma unroll
      for (uint32_t t = 0; t < kOutputTiles; ++t) {
#pragma unroll
        for (uint32_t i = 0; i < kRowTiles * 4; ++i) {
          shares[warp][i / 4 * 8 + 2 * q + i % 2][t * 16 + i % 4 / 2 * 8 + g] = sums[t][i / 4][i % 4];
        }
      }
      __syncthreads();
      // The warps' shares in their order.
      for (uint32_t i = threadIdx.x; i < kRowTiles * 8 * kFewOutputs; i += kFewWarps * 32) {
        const uint64_t row = first_row + i / kFewOutputs, output = n + i % kFewOutputs;
        if (row >= a.rows || output >= a.outputs) continue;
        float result = 0;
#pragma unroll
        for (uint32_t w = 0; w < kFewWarps; ++w) result += shares[w][i / kFewOutputs][i % kFewOutputs];
        if (a.bias) result += widen(static_cast<const Element*>(a.bias)[output]);
        float* y = a.y + row * a.outputs + output;
        *y = a.accumulate ? *y + result : result;
      }
    }
  }
};

template <typename Element>
__device__ void linear_few(const LinearArgs& a) {
  __shared__ Shares shares;
  constexpr uint32_t kUnroll = 8 / sizeof(Element);
  if (!is_aligned(a.weight) || !is_aligned(a.x) || a.inputs % 8 != 0) {
    LinearFew<Element, false, 2, 1>{a}.run(shares);
  } else if (a.rows <= 8) {
    LinearFew<Element, true, 1, kUnroll>{a}.run(shares);
  } else {
    LinearFew<Element, true, 2, kUnroll>{a}.run(shares);
  }
}

}  // namespace
}  // namespace spillway::decoder::cuda

SPILLWAY_ENTRIES_BY_DTYPE(linear_few, LinearArgs, __launch_bounds__(spillway::decoder::cuda::kFewWarps * 32, 2),
                          spillway::decoder::cuda::linear_few)
