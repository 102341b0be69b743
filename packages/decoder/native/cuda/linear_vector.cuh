// Matrix times vector, for one row: bound by reading the weight once, so all that counts is how many bytes are on
// their way at any time.
#pragma once

#include "../kernels/linear_args.h"
#include "element.cuh"

namespace spillway::decoder::cuda {

/// kOutputs outputs for each group of kSplit warps, which divide the inputs among them; kUnroll vectors of 16 bytes of
/// each output's weight are asked for before the first is used.
template <typename Element, uint32_t kOutputs, uint32_t kUnroll, uint32_t kWarps, uint32_t kSplit>
struct LinearVector {
  static constexpr uint32_t kVector = 16 / sizeof(Element);
  static constexpr uint32_t kGroups = kWarps / kSplit;
  static constexpr uint32_t kBlockOutputs = kGroups * kOutputs;

  static __device__ __forceinline__ void run(const LinearArgs& a) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t group = warp / kSplit, slice = warp % kSplit;
    const uint64_t inputs = a.inputs, n = uint64_t{blockIdx.x} * kBlockOutputs + group * kOutputs;
    const Element* weights[kOutputs];
#pragma unroll
    for (uint32_t j = 0; j < kOutputs; ++j) {
      // Outputs beyond the last are computed as the last, and not written: no branch where loads are made.
      const uint64_t output = n + j < a.outputs ? n + j : a.outputs - 1;
      weights[j] = static_cast<const Element*>(a.weight) + output * inputs;
    }
    const bool aligned = is_aligned(a.weight) && is_aligned(a.x) && inputs % kVector == 0;
    for (uint64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
      const float* x = a.x + row * inputs;
      float sums[kOutputs] = {};
      if (aligned) {
        add_vectors(x, weights, inputs, slice * 32 + lane, sums);
      } else {
        for (uint64_t k = slice * 32 + lane; k < inputs; k += kSplit * 32) {
#pragma unroll
          for (uint32_t j = 0; j < kOutputs; ++j) sums[j] += x[k] * widen(weights[j][k]);
        }
      }
      finish(a, row, n, sums, group, slice, lane);
    }
  }

 private:
  static constexpr uint32_t kStep = kSplit * 32 * kVector;

  static __device__ __forceinline__ void add_vectors(const float* x, const Element* const (&weights)[kOutputs],
                                                     uint64_t inputs, uint32_t thread, float (&sums)[kOutputs]) {
    uint64_t base = uint64_t{thread} * kVector;
    for (; base + (kUnroll - 1) * kStep < inputs; base += kUnroll * kStep) {
      add_batch<true>(x, weights, base, inputs, sums);
    }
    if (base < inputs) add_batch<false>(x, weights, base, inputs, sums);
  }

  /// Vectors beyond the end read the first one instead, and count as zeros: with loads under a condition, the compiler
  /// put each directly before its use, and two of them were under way instead of all.
  template <bool kWhole>
  static __device__ __forceinline__ void add_batch(const float* x, const Element* const (&weights)[kOutputs],
                                                   uint64_t base, uint64_t inputs, float (&sums)[kOutputs]) {
    uint4 bits[kUnroll][kOutputs];
#pragma unroll
    for (uint32_t u = 0; u < kUnroll; ++u) {
      const uint64_t k = base + u * kStep;
#pragma unroll
      for (uint32_t j = 0; j < kOutputs; ++j) {
        bits[u][j] = load_streaming<Source::kWeights>(weights[j] + (kWhole || k < inputs ? k : 0));
      }
    }
#pragma unroll
    for (uint32_t u = 0; u < kUnroll; ++u) {
      const uint64_t k = base + u * kStep;
      const bool inside = kWhole || k < inputs;
      float4 values[kVector / 4];
#pragma unroll
      for (uint32_t v = 0; v < kVector / 4; ++v) {
        values[v] = *(reinterpret_cast<const float4*>(x + (inside ? k : 0)) + v);
        if (!inside) values[v] = make_float4(0, 0, 0, 0);
      }
#pragma unroll
      for (uint32_t j = 0; j < kOutputs; ++j) {
        if (!inside) bits[u][j] = make_uint4(0, 0, 0, 0);
        const Element* elements = reinterpret_cast<const Element*>(&bits[u][j]);
#pragma unroll
        for (uint32_t v = 0; v < kVector / 4; ++v) {
          sums[j] = fmaf(values[v].x, widen(elements[4 * v]), sums[j]);
          sums[j] = fmaf(values[v].y, widen(elements[4 * v + 1]), sums[j]);
          sums[j] = fmaf(values[v].z, widen(elements[4 * v + 2]), sums[j]);
          sums[j] = fmaf(values[v].w, widen(elements[4 * v + 3]), sums[j]);
        }
      }
    }
  }

  /// The slices' sums in their order, then bias and what y held.
  static __device__ __forceinline__ void finish(const LinearArgs& a, uint64_t row, uint64_t n, float (&sums)[kOutputs],
                                                uint32_t group, uint32_t slice, uint32_t lane) {
    __shared__ float slices[kGroups][kSplit][kOutputs];
    float result = 0;
#pragma unroll
    for (uint32_t j = 0; j < kOutputs; ++j) {
      const float sum = warp_sum(sums[j]);
      if (lane == j) result = sum;
    }
    if constexpr (kSplit > 1) {
      __syncthreads();  // the row before has been read
      if (lane < kOutputs) slices[group][slice][lane] = result;
      __syncthreads();
      if (slice != 0) return;
      result = 0;
      if (lane < kOutputs) {
#pragma unroll
        for (uint32_t s = 0; s < kSplit; ++s) result += slices[group][s][lane];
      }
    }
    const uint64_t output = n + lane;
    if (lane >= kOutputs || output >= a.outputs) return;
    if (a.bias) result += widen(static_cast<const Element*>(a.bias)[output]);
    float* y = a.y + row * a.outputs + output;
    *y = a.accumulate ? *y + result : result;
  }
};

}  // namespace spillway::decoder::cuda
