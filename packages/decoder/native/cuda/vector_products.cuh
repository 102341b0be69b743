// Matrix times vector, for one row: bound by reading the weight once, so all that counts is how many bytes are on
// their way at any time.
#pragma once

#include "element.cuh"
#include "launch_shape.hpp"

namespace spillway::decoder::cuda {

/// Where kVectorOutputs rows of a weight begin.
template <typename Element>
using WeightRows = const Element* [kVectorOutputs];

/// Rows n … n + kCount - 1 of [outputs, inputs]. Those beyond the last are the last once more, computed and not
/// written: no branch where loads are made.
template <uint32_t kCount, typename Element>
__device__ __forceinline__ void find_rows(const Element* weight, uint64_t n, uint64_t outputs, uint64_t inputs,
                                          const Element** rows) {
#pragma unroll
  for (uint32_t j = 0; j < kCount; ++j) rows[j] = weight + (n + j < outputs ? n + j : outputs - 1) * inputs;
}

/// One row of activations times kVectorOutputs rows of a weight, by one block. All its warps divide the inputs among
/// them: at 4096 inputs of 16 bits a block asks for all its bytes at once. Measured on an H200 against 19 other
/// divisions.
///
/// kNormed: the activations are x / sqrt(mean(x²) + epsilon) · norm. The root is the same for all of them, so it is the
/// sums that are divided: no warp waits for the squares of the others before it can multiply.
template <typename Element, bool kNormed>
class VectorProducts {
 public:
  /// x, each of `weights` and, where kNormed, `norm` have `inputs` elements.
  __device__ __forceinline__ VectorProducts(const float* x, const Element* norm, const WeightRows<Element>& weights,
                                            uint64_t inputs)
      : x_(x), norm_(norm), weights_(weights), inputs_(inputs) {}

  /// In lane j < kVectorOutputs of the first warp: the product with weights[j]. Other lanes and warps get no number of
  /// use. All threads of the block call it.
  __device__ __forceinline__ float multiply(float epsilon) {
    if (is_aligned(x_) && is_aligned(weights_[0]) && (!kNormed || is_aligned(norm_)) && inputs_ % kVector == 0) {
      uint64_t base = uint64_t{threadIdx.x} * kVector;
      for (; base + (kUnroll - 1) * kStep < inputs_; base += kUnroll * kStep) add_batch<true>(base);
      if (base < inputs_) add_batch<false>(base);
    } else {
      for (uint64_t k = threadIdx.x; k < inputs_; k += kVectorWarps * 32) {
        float value = x_[k];
        if constexpr (kNormed) value = weigh(value, norm_[k]);
#pragma unroll
        for (uint32_t j = 0; j < kVectorOutputs; ++j) sums_[j] += value * widen(weights_[j][k]);
      }
    }
    return add_slices(epsilon);
  }

 private:
  static constexpr uint32_t kVector = 16 / sizeof(Element);
  static constexpr uint32_t kStep = kVectorWarps * 32 * kVector;
  // Vectors of 16 bytes of each weight row that a thread asks for before it uses the first.
  static constexpr uint32_t kUnroll = 2;

  __device__ __forceinline__ float weigh(float value, Element norm) {
    squares_ = fmaf(value, value, squares_);
    return value * widen(norm);
  }

  /// Vectors beyond the end read the first one instead, and count as zeros: with loads under a condition, the compiler
  /// put each directly before its use, and two of them were under way instead of all.
  template <bool kWhole>
  __device__ __forceinline__ void add_batch(uint64_t base) {
    uint4 bits[kUnroll][kVectorOutputs];
#pragma unroll
    for (uint32_t u = 0; u < kUnroll; ++u) {
      const uint64_t k = base + u * kStep;
#pragma unroll
      for (uint32_t j = 0; j < kVectorOutputs; ++j) {
        bits[u][j] = load_streaming<Source::kWeights>(weights_[j] + (kWhole || k < inputs_ ? k : 0));
      }
    }
#pragma unroll
    for (uint32_t u = 0; u < kUnroll; ++u) {
      const uint64_t k = base + u * kStep;
      const bool inside = kWhole || k < inputs_;
      float values[kVector];
      load_activations(inside ? k : 0, inside, values);
#pragma unroll
      for (uint32_t j = 0; j < kVectorOutputs; ++j) {
        if (!inside) bits[u][j] = make_uint4(0, 0, 0, 0);
        const Element* elements = reinterpret_cast<const Element*>(&bits[u][j]);
#pragma unroll
        for (uint32_t i = 0; i < kVector; ++i) sums_[j] = fmaf(values[i], widen(elements[i]), sums_[j]);
      }
    }
  }

  /// Those at k … k + kVector - 1, or zeros.
  __device__ __forceinline__ void load_activations(uint64_t k, bool inside, float (&values)[kVector]) {
#pragma unroll
    for (uint32_t v = 0; v < kVector / 4; ++v) {
      const float4 four = *(reinterpret_cast<const float4*>(x_ + k) + v);
      values[4 * v] = four.x, values[4 * v + 1] = four.y, values[4 * v + 2] = four.z, values[4 * v + 3] = four.w;
    }
#pragma unroll
    for (uint32_t i = 0; i < kVector; ++i) values[i] = inside ? values[i] : 0.0f;
    if constexpr (kNormed) {
      // All blocks read it: it should stay in the first-level cache.
      const uint4 bits = __ldg(reinterpret_cast<const uint4*>(norm_ + k));
      const Element* elements = reinterpret_cast<const Element*>(&bits);
#pragma unroll
      for (uint32_t i = 0; i < kVector; ++i) values[i] = weigh(values[i], elements[i]);
    }
  }

  /// The warps' shares in their order: the same bits in every run.
  __device__ __forceinline__ float add_slices(float epsilon) {
    constexpr uint32_t kSums = kVectorOutputs + (kNormed ? 1 : 0);
    __shared__ float slices[kVectorWarps][kSums];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float result = 0;
#pragma unroll
    for (uint32_t j = 0; j < kSums; ++j) {
      const float sum = warp_sum(j < kVectorOutputs ? sums_[j] : squares_);
      if (lane == j) result = sum;
    }
    __syncthreads();  // the row before has been read
    if (lane < kSums) slices[warp][lane] = result;
    __syncthreads();
    if (warp != 0) return 0;
    result = 0;
    if (lane < kSums) {
#pragma unroll
      for (uint32_t s = 0; s < kVectorWarps; ++s) result += slices[s][lane];
    }
    if constexpr (kNormed) {
      const float mean = __shfl_sync(0xffffffffu, result, kVectorOutputs) / static_cast<float>(inputs_);
      result *= 1.0f / sqrtf(mean + epsilon);
    }
    return result;
  }

  const float* x_;
  const Element* norm_;
  const WeightRows<Element>& weights_;
  uint64_t inputs_;
  float sums_[kVectorOutputs] = {};
  float squares_ = 0;
};

}  // namespace spillway::decoder::cuda
