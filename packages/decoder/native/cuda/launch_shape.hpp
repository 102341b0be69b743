// How the CUDA kernels of this folder must be launched: which entry point, grid, block and shared bytes for given
// arguments. Plain C++17, so that the addon's host code and the device code agree on one set of numbers.
//
// Nothing here depends on what is known only when the work runs (the position): a captured launch is replayed as it is.
#pragma once

#include <stdint.h>

#include "../dtype.hpp"
#include "../kernels/attention_args.h"
#include "../kernels/embedding_args.h"
#include "../kernels/linear_args.h"
#include "../kernels/norm_linear_args.h"
#include "../kernels/norm_swiglu_args.h"
#include "../kernels/qk_norm_args.h"
#include "../kernels/rms_norm_args.h"
#include "../kernels/rope_append_args.h"
#include "../kernels/silu_mul_args.h"
#include "../kernels/split_args.h"

namespace spillway::decoder::cuda {

struct LaunchShape {
  uint32_t grid[3];
  uint32_t block;         // threads, all in x
  uint32_t shared_bytes;  // dynamic
};

/// Entry points of one operation that fit different numbers of rows. Each computes any number correctly.
enum class LinearEntry : uint32_t { kVector, kFew, kTiles };  // linear_vector_*, linear_few_*, linear_tiles_*
enum class AttentionEntry : uint32_t { kSplit, kTiles };      // attention_split_*, attention_tiles_*

// Second and third dimension of a grid; kernels step over what is beyond.
constexpr uint32_t kGridLimit = 65535;

constexpr uint32_t clamp_grid(uint64_t blocks) {
  return static_cast<uint32_t>(blocks < kGridLimit ? blocks : kGridLimit);
}
constexpr uint64_t blocks_of(uint64_t count, uint64_t each) { return (count + each - 1) / each; }

// ---- rows of elements ----------------------------------------------------------------------------------------------

constexpr uint32_t kElementThreads = 256;
// Elements that a thread of silu_mul or split takes: as many as a 16-byte access of f32.
constexpr uint32_t kElementsEach = 4;
constexpr uint64_t kElementsOfBlock = uint64_t{kElementThreads} * kElementsEach;

inline LaunchShape embedding_shape(const EmbeddingArgs& a) { return {{a.rows, 1, 1}, kElementThreads, 0}; }

/// One block for a row, as many threads as it has work for: a token's norm is one block, whose latency counts.
inline LaunchShape rms_norm_shape(const RmsNormArgs& a) {
  uint32_t threads = 32;
  while (threads < 1024 && uint64_t{threads} * 4 < a.hidden) threads *= 2;
  return {{a.rows, 1, 1}, threads, 0};
}

/// A warp for each head.
inline LaunchShape qk_norm_shape(const QkNormArgs& a) {
  const uint64_t heads = uint64_t{a.heads} + a.key_value_heads;
  return {{a.rows, clamp_grid(blocks_of(heads, kElementThreads / 32)), 1}, kElementThreads, 0};
}

inline LaunchShape rope_append_shape(const RopeAppendArgs& a) {
  const uint64_t heads = uint64_t{a.heads} + 2 * uint64_t{a.key_value_heads};
  return {{a.rows, clamp_grid(heads), 1}, a.head_dim <= 128 ? 64u : 128u, 0};
}

inline LaunchShape silu_mul_shape(const SiluMulArgs& a) {
  return {{a.rows, clamp_grid(blocks_of(a.ffn, kElementsOfBlock)), 1}, kElementThreads, 0};
}

inline LaunchShape split_shape(const SplitArgs& a) {
  return {{clamp_grid(blocks_of(a.count, kElementsOfBlock)), 1, 1}, kElementThreads, 0};
}

// ---- linear --------------------------------------------------------------------------------------------------------

// linear_vector_*, norm_linear_*: warps of a block, and outputs that its warps share.
constexpr uint32_t kVectorWarps = 8, kVectorOutputs = 4;
// norm_swiglu_*: a block has each output twice, of gate and of up.
constexpr uint32_t kGatedOutputs = kVectorOutputs / 2;
// linear_few_*: rows are one fragment of the matrix unit, whose columns are outputs.
constexpr uint32_t kFewWarps = 8, kFewRows = 16, kFewOutputs = 32;
// Rows up to which linear_few_* is the faster one: at 32 it reads the weight twice (measured on an H200).
constexpr uint32_t kFewRowsAtMost = 32;
// linear_tiles_*: rows and outputs of a block's tile, inputs of a step.
constexpr uint32_t kTileRows = 128, kTileOutputs = 128, kTileDepth = 32;

constexpr uint32_t kTileWarps = 8;
/// Steps in shared memory at once.
constexpr uint32_t tile_stages(DType dtype) { return dtype == DType::kF32 ? 3 : 4; }
constexpr uint32_t element_bytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }
/// 96 KiB, for all of them: what a block gets on the smallest GPUs is 99.
constexpr uint32_t tile_shared_bytes(DType dtype) {
  return tile_stages(dtype) * kTileDepth * (kTileRows * 4 + kTileOutputs * element_bytes(dtype));
}

inline LinearEntry linear_entry(const LinearArgs& a) {
  return a.rows == 1 ? LinearEntry::kVector : a.rows <= kFewRowsAtMost ? LinearEntry::kFew : LinearEntry::kTiles;
}

inline LaunchShape vector_shape(uint32_t rows, uint32_t outputs, uint32_t of_block) {
  return {{static_cast<uint32_t>(blocks_of(outputs, of_block)), clamp_grid(rows), 1}, kVectorWarps * 32, 0};
}

inline LaunchShape norm_linear_shape(const NormLinearArgs& a) {
  return vector_shape(a.rows, a.outputs, kVectorOutputs);
}

inline LaunchShape norm_swiglu_shape(const NormSwigluArgs& a) { return vector_shape(a.rows, a.ffn, kGatedOutputs); }

inline LaunchShape linear_shape(const LinearArgs& a, LinearEntry entry, DType dtype) {
  switch (entry) {
    case LinearEntry::kVector:
      return vector_shape(a.rows, a.outputs, kVectorOutputs);
    case LinearEntry::kFew:
      return {{static_cast<uint32_t>(blocks_of(a.outputs, kFewOutputs)), clamp_grid(blocks_of(a.rows, kFewRows)), 1},
              kFewWarps * 32,
              0};
    case LinearEntry::kTiles:
    default:
      // Rows in x, which varies fastest: the blocks that run at once share their part of the weight.
      return {{static_cast<uint32_t>(blocks_of(a.rows, kTileRows)), clamp_grid(blocks_of(a.outputs, kTileOutputs)), 1},
              kTileWarps * 32,
              tile_shared_bytes(dtype)};
  }
}

// ---- attention -----------------------------------------------------------------------------------------------------

// attention_split_*: blocks of a cluster, among which the positions of a row are divided; query heads that read a key
// at once. With two, twice as many clusters: more than the GPU can hold at once, for a cluster's blocks must be
// neighbours.
constexpr uint32_t kAttentionSplits = 8, kAttentionWarps = 8, kAttentionHeads = 4;
// Rows from which on attention_tiles_* is the faster one (measured on an H200): with few queries its tiles are mostly
// empty.
constexpr uint32_t kAttentionTileRows = 24;

/// Head dimensions that the kernels are compiled for; others use the next larger.
constexpr uint32_t padded_head_dim(uint32_t head_dim) { return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256; }

/// One query head for each warp to keep in registers when no other shares its keys.
constexpr uint32_t attention_heads(uint32_t group) { return group == 1 ? 1 : kAttentionHeads; }

// attention_tiles_*: queries are rows of one head, 16 for each warp; keys of a step. Sized so that the tile of the
// largest head dimension fits into the 99 KiB of the smallest GPUs.
constexpr uint32_t tile_queries(uint32_t padded_dim) { return padded_dim == 256 ? 32 : 64; }
constexpr uint32_t tile_keys(uint32_t padded_dim) { return padded_dim == 256 ? 16 : 32; }
// Floats from one row of a tile to the next; attention_tiles.cu says why.
constexpr uint32_t key_stride(uint32_t padded_dim) { return padded_dim + 16; }
constexpr uint32_t value_stride(uint32_t padded_dim) { return padded_dim + 4; }
constexpr uint32_t attention_tile_shared_bytes(uint32_t padded_dim) {
  return 4 * ((tile_queries(padded_dim) + tile_keys(padded_dim)) * key_stride(padded_dim) +
              tile_keys(padded_dim) * value_stride(padded_dim));
}

inline AttentionEntry attention_entry(const AttentionArgs& a) {
  return a.rows < kAttentionTileRows ? AttentionEntry::kSplit : AttentionEntry::kTiles;
}

inline LaunchShape attention_shape(const AttentionArgs& a, AttentionEntry entry) {
  const uint32_t group = a.heads / a.key_value_heads;
  if (entry == AttentionEntry::kSplit) {
    const uint64_t pieces = uint64_t{a.key_value_heads} * blocks_of(group, attention_heads(group));
    return {{kAttentionSplits, clamp_grid(pieces), clamp_grid(a.rows)}, kAttentionWarps * 32, 0};
  }
  const uint32_t padded_dim = padded_head_dim(a.head_dim), queries = tile_queries(padded_dim);
  return {{static_cast<uint32_t>(blocks_of(a.rows, queries)), clamp_grid(a.heads), 1},
          queries * 2,
          attention_tile_shared_bytes(padded_dim)};
}

}  // namespace spillway::decoder::cuda
