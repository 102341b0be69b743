// Many rows: bound by arithmetic, on the matrix units, with tiles staged in shared memory by asynchronous copies.
//
// Nearly f32's precision, by activations in two parts: of bf16 for bf16 weights, where that is twice as fast, of tf32
// for others. Parts of f16 would overflow at 65504. (Activations rounded to bf16 once, in one part, put the logits of a
// model 0.025 from those of f32.)
#include "../kernels/linear_args.h"
#include "fragment.cuh"
#include "launch_shape.hpp"
#include "tile_stage.cuh"

namespace spillway::decoder::cuda {
namespace {

template <typename Element>
inline constexpr DType kDType = DType::kF32;
template <>
inline constexpr DType kDType<Float16> = DType::kF16;
template <>
inline constexpr DType kDType<BFloat16> = DType::kBF16;

template <typename Element>
struct LinearTiles {
  static constexpr uint32_t kThreads = kTileWarps * 32, kStages = tile_stages(kDType<Element>);
  // Two warps side by side divide the rows, the others the outputs.
  static constexpr uint32_t kWarpRows = kTileRows / 2, kWarpOutputs = kTileOutputs / (kThreads / 64);
  static constexpr uint32_t kRowTiles = kWarpRows / 16, kColumnTiles = kWarpOutputs / 8;
  using TileStage = Stage<Element>;
  static_assert(sizeof(TileStage) * kStages == tile_shared_bytes(kDType<Element>));
  using Sums = float[kRowTiles][kColumnTiles][4];

  const LinearArgs& a;
  TileStage* const stages;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  const uint32_t warp_row = warp % 2 * kWarpRows, warp_output = warp / 2 * kWarpOutputs;

  __device__ __forceinline__ LinearTiles(const LinearArgs& arguments, void* shared)
      : a(arguments), stages(static_cast<TileStage*>(shared)) {}

  /// Adds one stage's products to the sums.
  __device__ __forceinline__ void multiply(const TileStage& stage, Sums& sums) const {
#pragma unroll
    for (uint32_t k = 0; k < kTileDepth; k += 16) {
      if constexpr (kDType<Element> == DType::kBF16) {
        uint2 columns[kColumnTiles];
#pragma unroll
        for (uint32_t t = 0; t < kColumnTiles; ++t) {
          const uint32_t place = stage.weights.place(warp_output + t * 8 + g, k + 4 * q);
          columns[t] = *reinterpret_cast<const uint2*>(stage.weights.elements + place);
        }
#pragma unroll
        for (uint32_t r = 0; r < kRowTiles; ++r) {
          const float4 low = four_floats(stage.activations, warp_row + r * 16 + g, k + 4 * q);
          const float4 high = four_floats(stage.activations, warp_row + r * 16 + g + 8, k + 4 * q);
          const Bf16Parts<2> pairs[4] = {{low.x, low.y}, {high.x, high.y}, {low.z, low.w}, {high.z, high.w}};
#pragma unroll
          for (int32_t part = 1; part >= 0; --part) {
            const uint32_t rows[4] = {pairs[0][part], pairs[1][part], pairs[2][part], pairs[3][part]};
#pragma unroll
            for (uint32_t t = 0; t < kColumnTiles; ++t) multiply_bf16(sums[r][t], rows, columns[t].x, columns[t].y);
          }
        }
      } else {
#pragma unroll
        for (uint32_t r = 0; r < kRowTiles; ++r) {
          const float4 low = four_floats(stage.activations, warp_row + r * 16 + g, k + 4 * q);
          const float4 high = four_floats(stage.activations, warp_row + r * 16 + g + 8, k + 4 * q);
          const SplitRows rows({low.x, low.y, low.z, low.w}, {high.x, high.y, high.z, high.w});
#pragma unroll
          for (uint32_t t = 0; t < kColumnTiles; ++t) {
            const uint32_t place = stage.weights.place(warp_output + t * 8 + g, k + 4 * q);
            float column[4];
#pragma unroll
            for (uint32_t i = 0; i < 4; ++i) column[i] = widen(stage.weights.elements[place + i]);
            multiply_split<kExactInTf32<Element>>(sums[r][t], rows, column);
          }
        }
      }
    }
  }

  template <bool kAligned>
  __device__ __forceinline__ void add_products(uint64_t first_row, uint64_t n, Sums& sums) const {
    const uint64_t steps = (uint64_t{a.inputs} + kTileDepth - 1) / kTileDepth;
    const TileSource<float, kTileRows, kThreads> activations(a.x, first_row, a.rows, a.inputs);
    const TileSource<Element, kTileOutputs, kThreads> weights(a.weight, n, a.outputs, a.inputs);
    const auto copy_stage = [&](uint32_t index, uint64_t k) {
      activations.template copy<kAligned>(k, stages[index].activations);
      weights.template copy<kAligned>(k, stages[index].weights);
    };
    __syncthreads();  // the tile before has been read
#pragma unroll
    for (uint32_t s = 0; s < kStages - 1; ++s) {
      if (s < steps) copy_stage(s, uint64_t{s} * kTileDepth);
      commit_copies();
    }
    uint32_t index = 0, next = kStages - 1;
    for (uint64_t step = 0; step < steps; ++step) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // everyone's copies are there, and everyone is done with the stage that is written next
      if (step + kStages - 1 < steps) copy_stage(next, (step + kStages - 1) * kTileDepth);
      commit_copies();  // an empty group too: groups are counted
      // The matrix units cut sums off instead of rounding them: over thousands of inputs, a hundred times f32's error.
      // So each stage is summed from zero, and added as f32 is.
      Sums part = {};
      multiply(stages[index], part);
#pragma unroll
      for (uint32_t i = 0; i < kRowTiles * kColumnTiles * 4; ++i) (&sums[0][0][0])[i] += (&part[0][0][0])[i];
      index = index + 1 == kStages ? 0 : index + 1;
      next = next + 1 == kStages ? 0 : next + 1;
    }
    wait_for_copies<0>();
  }

  __device__ __forceinline__ void write(uint64_t row, uint64_t output, float value) const {
    if (row >= a.rows || output >= a.outputs) return;
    if (a.bias) value += widen(static_cast<const Element*>(a.bias)[output]);
    float* y = a.y + row * a.outputs + output;
    *y = a.accumulate ? *y + value : value;
  }

  __device__ __forceinline__ void run() const {
    const bool aligned = is_aligned(a.weight) && is_aligned(a.x) && a.inputs % 8 == 0;
    const uint64_t first_row = uint64_t{blockIdx.x} * kTileRows;
    for (uint64_t n = uint64_t{blockIdx.y} * kTileOutputs; n < a.outputs; n += uint64_t{gridDim.y} * kTileOutputs) {
      Sums sums = {};
      if (aligned) {
        add_products<true>(first_row, n, sums);
      } else {
        add_products<false>(first_row, n, sums);
      }
#pragma unroll
      for (uint32_t r = 0; r < kRowTiles; ++r) {
#pragma unroll
        for (uint32_t t = 0; t < kColumnTiles; ++t) {
          const uint64_t row = first_row + warp_row + r * 16 + g, output = n + warp_output + t * 8 + 2 * q;
#pragma unroll
          for (uint32_t i = 0; i < 4; ++i) write(row + i / 2 * 8, output + i % 2, sums[r][t][i]);
        }
      }
    }
  }
};

template <typename Element>
__device__ __forceinline__ void linear_tiles(const LinearArgs& a) {
  extern __shared__ uint4 shared[];
  LinearTiles<Element>(a, shared).run();
}

}  // namespace
}  // namespace spillway::decoder::cuda

SPILLWAY_ENTRIES_BY_DTYPE(linear_tiles, LinearArgs, __launch_bounds__(spillway::decoder::cuda::kTileWarps * 32),
                          spillway::decoder::cuda::linear_tiles)
