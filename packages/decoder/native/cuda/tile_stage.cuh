// One step of a matrix product in shared memory: kTileDepth inputs of a tile's activations and of its weights.
//
// Rows lie one behind another, their 16-byte chunks permuted so that the 8 or 16 lanes that the hardware serves at once
// meet all 32 banks. No padding: it would cost a third of the stages.
#pragma once

#include "element.cuh"
#include "launch_shape.hpp"

namespace spillway::decoder::cuda {

/// Asks for 16 bytes, or for zeros when not `inside`.
__device__ __forceinline__ void copy_chunk(void* to, const void* from, bool inside) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Until no more than kPending of the last groups are under way.
template <uint32_t kPending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// kRows rows of kTileDepth elements.
template <typename Element, uint32_t kRows>
struct StageOperand {
  static constexpr uint32_t kChunkElements = 16 / sizeof(Element);
  static constexpr uint32_t kChunks = kTileDepth / kChunkElements;

  Element elements[kRows * kTileDepth];

  /// Where inputs k … of a row begin; what follows up to the end of k's chunk is next to it.
  static __device__ __forceinline__ uint32_t place(uint32_t row, uint32_t k) {
    const uint32_t chunk = k / kChunkElements;
    // Four rows of 16-bit elements are read at once, half of each; two rows of f32.
    const uint32_t swapped = sizeof(Element) == 2 ? chunk ^ (row & 2) : chunk ^ ((row & 1) << 2);
    return row * kTileDepth + swapped * kChunkElements + k % kChunkElements;
  }
};

/// What one thread copies of a matrix's tile in every step, worked out once: 64-bit products for each chunk took more
/// instructions than the products of the tile.
template <typename Element, uint32_t kRows, uint32_t kThreads>
struct TileSource {
  using Operand = StageOperand<Element, kRows>;
  static constexpr uint32_t kCopies = kRows * Operand::kChunks / kThreads;
  static constexpr uint32_t kRowStep = kThreads / Operand::kChunks;
  // So the rows of one thread are permuted alike.
  static_assert(kRowStep % 4 == 0 && kCopies * kThreads == kRows * Operand::kChunks);

  const Element* matrix;
  uint64_t first_row, rows, inputs;
  const Element* from;   // this thread's first chunk in step 0
  uint64_t row_stride;   // elements from one of its chunks to its next
  uint32_t place;        // of its first chunk in the stage
  uint32_t first_input;  // of its chunks
  uint32_t distinct;     // of its chunks, how many lie in rows of the matrix

  __device__ __forceinline__ TileSource(const void* address, uint64_t first, uint64_t count, uint64_t width)
      : matrix(static_cast<const Element*>(address)), first_row(first), rows(count), inputs(width) {
    const uint32_t row = threadIdx.x / Operand::kChunks;
    first_input = threadIdx.x % Operand::kChunks * Operand::kChunkElements;
    // Rows beyond the last are read as the last: what they give is not written, and no other row's sums contain it.
    const uint64_t known = first_row + row < rows ? rows - first_row - row : 0;
    from = matrix + (known > 0 ? first_row + row : rows - 1) * inputs + first_input;
    row_stride = kRowStep * inputs;
    distinct = static_cast<uint32_t>(known >= kRows ? kCopies : (known + kRowStep - 1) / kRowStep);
    place = Operand::place(row, first_input);
  }

  /// Inputs [k, k + kTileDepth) of the tile's rows; zeros beyond the last input.
  template <bool kAligned>
  __device__ __forceinline__ void copy(uint64_t k, Operand& to) const {
    if constexpr (kAligned) {
      const bool is_inside = k + first_input < inputs;
      const Element* chunk = from + k;
#pragma unroll
      for (uint32_t u = 0; u < kCopies; ++u) {
        copy_chunk(to.elements + place + u * kRowStep * kTileDepth, chunk, is_inside);
        chunk += u + 1 < distinct ? row_stride : 0;
      }
    } else {
      for (uint32_t i = threadIdx.x; i < kRows * kTileDepth; i += kThreads) {
        const uint64_t row = first_row + i / kTileDepth, column = k + i % kTileDepth;
        const float value = row < rows && column < inputs ? widen(matrix[row * inputs + column]) : 0.0f;
        narrow(value, to.elements + Operand::place(i / kTileDepth, i % kTileDepth));
      }
    }
  }
};

/// Four neighbours of f32.
template <uint32_t kRows>
__device__ __forceinline__ float4 four_floats(const StageOperand<float, kRows>& operand, uint32_t row, uint32_t k) {
  return *reinterpret_cast<const float4*>(operand.elements + operand.place(row, k));
}

template <typename Element>
struct Stage {
  StageOperand<float, kTileRows> activations;
  StageOperand<Element, kTileOutputs> weights;
};

}  // namespace spillway::decoder::cuda
