// Attention for few rows, as in decoding: bound by reading the cache once. The positions that a row sees are divided
// among the warps of a cluster's blocks; each keeps a softmax of its own (Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018), and these are put together in a fixed order, through the cluster's shared memory.
//
// The grid does not depend on the position, which is read when the work runs: a replayed graph sees new ones.
#include <cooperative_groups.h>

#include "../kernels/attention_args.h"
#include "element.cuh"
#include "launch_shape.hpp"

// Clusters came with compute capability 9.0; before it one block of each eight does all the work.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define SPILLWAY_CLUSTER
#else
#define SPILLWAY_CLUSTER __cluster_dims__(8, 1, 1)
static_assert(spillway::decoder::cuda::kAttentionSplits == 8, "the cluster is as large as the split");
#endif

namespace spillway::decoder::cuda {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr uint32_t kAccumulators = kAttentionWarps * 32 * kAttentionHeads * 8;

/// A block's shared memory: what each group of lanes has summed up, then what the block has.
struct Shared {
  float sums[kAccumulators];  // [part][head][dimension]
  float maximum[kAttentionWarps * 4][kAttentionHeads], total[kAttentionWarps * 4][kAttentionHeads];
  float factor[kAttentionWarps * 4][kAttentionHeads];
  float block_sums[kAttentionHeads][SPILLWAY_ATTENTION_MAX_HEAD_DIM];
  float block_maximum[kAttentionHeads], block_total[kAttentionHeads];
};

__device__ __forceinline__ float minus_infinity() { return __int_as_float(static_cast<int32_t>(0xff800000)); }
/// What a sum under maximum `before` is multiplied with when the maximum is `now`; one that summed nothing stays zero.
__device__ __forceinline__ float rescale(float before, float now) { return before == now ? 1.0f : exp2f(before - now); }

__device__ __forceinline__ uint32_t cluster_rank() {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().block_rank();
#else
  return 0;
#endif
}
__device__ __forceinline__ constexpr uint32_t cluster_blocks() {
#if __CUDA_ARCH__ >= 900
  return kAttentionSplits;
#else
  return 1;
#endif
}
/// All blocks of the cluster have come here, and see what the others wrote.
__device__ __forceinline__ void cluster_barrier() {
#if __CUDA_ARCH__ >= 900
  cooperative_groups::this_cluster().sync();
#else
  __syncthreads();
#endif
}
__device__ __forceinline__ const Shared& shared_of(Shared& mine, uint32_t rank) {
#if __CUDA_ARCH__ >= 900
  return *cooperative_groups::this_cluster().map_shared_rank(&mine, rank);
#else
  return mine;
#endif
}

/// kHeads query heads of one row, which all read one key-value head. A key is read by kLanes lanes, 8 dimensions each.
template <typename Element, uint32_t kDims, uint32_t kHeads, bool kAligned>
struct AttentionSplit {
  // Keys of each lane whose loads are under way together: 16 registers' worth of f32, of 16 bits half as many.
  static constexpr uint32_t kUnroll = 8 / sizeof(Element);
  static constexpr uint32_t kLanes = kDims / 8, kKeys = 32 / kLanes, kParts = kAttentionWarps * kKeys;
  static_assert(kParts <= kAttentionWarps * 4 && kParts * kHeads * kDims <= kAccumulators);

  struct Batch {
    Eight<Element> keys[kUnroll], values[kUnroll];
  };

  const AttentionArgs& a;
  Shared& shared;
  const uint64_t row, first_head, heads, key_value_head;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t key = lane / kLanes, dimension = lane % kLanes * 8;

  /// Behind the last position that this row sees; 0 when its own is not in the cache.
  __device__ __forceinline__ int64_t end_position() const {
    const int64_t position = int64_t{*a.position} + static_cast<int64_t>(row);
    return position >= 0 && position < int64_t{a.context} ? position + 1 : 0;
  }

  __device__ __forceinline__ void run() {
    float q[kHeads][8], sums[kHeads][8] = {}, maximum[kHeads], total[kHeads] = {};
    const uint64_t width = (uint64_t{a.heads} + 2 * uint64_t{a.key_value_heads}) * a.head_dim;
#pragma unroll
    for (uint32_t h = 0; h < kHeads; ++h) {
      maximum[h] = minus_infinity();
      const float* from = a.qkv + row * width + (first_head + (h < heads ? h : 0)) * a.head_dim;
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i) {
        // Scores to base 2, for which the hardware has an exponential.
        q[h][i] = dimension + i < a.head_dim ? from[dimension + i] * a.scale * kLog2E : 0.0f;
      }
    }
    add_positions(q, sums, maximum, total);
    const uint32_t part = warp * kKeys + key;
#pragma unroll
    for (uint32_t h = 0; h < kHeads; ++h) {
      float* to = shared.sums + (part * kHeads + h) * kDims + dimension;
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i) to[i] = sums[h][i];
      if (dimension == 0) shared.maximum[part][h] = maximum[h], shared.total[part][h] = total[h];
    }
    __syncthreads();
    combine_block();
    cluster_barrier();
    if (cluster_rank() == 0) combine_cluster();
    cluster_barrier();  // no block ends, or goes on, while another reads its shared memory
  }

  __device__ __forceinline__ void add_positions(const float (&q)[kHeads][8], float (&sums)[kHeads][8],
                                                float (&maximum)[kHeads], float (&total)[kHeads]) const {
    constexpr int64_t kWarpKeys = kUnroll * kKeys;
    const int64_t end = end_position(), begin = a.window == 0 || end <= a.window ? 0 : end - a.window;
    const uint64_t cache_width = uint64_t{a.key_value_heads} * a.head_dim;
    const Element* keys = static_cast<const Element*>(a.keys) + key_value_head * a.head_dim;
    const Element* values = static_cast<const Element*>(a.values) + key_value_head * a.head_dim;
    const int64_t warps = int64_t{cluster_blocks()} * kAttentionWarps;
    Batch next;
    const auto load = [&](int64_t from) {
#pragma unroll
      for (uint32_t u = 0; u < kUnroll; ++u) {
        const int64_t at = from + u * kKeys + key, position = at < end ? at : end - 1;
        next.keys[u] = load_eight<Source::kWritten, kAligned>(keys + static_cast<uint64_t>(position) * cache_width,
                                                              dimension, a.head_dim);
        next.values[u] = load_eight<Source::kWritten, kAligned>(values + static_cast<uint64_t>(position) * cache_width,
                                                                dimension, a.head_dim);
      }
    };
    const int64_t first = begin + (int64_t{cluster_rank()} * kAttentionWarps + warp) * kWarpKeys;
    if (first < end) load(first);
    for (int64_t start = first; start < end; start += warps * kWarpKeys) {
      const Batch now_there = next;
      load(start + warps * kWarpKeys);  // before the arithmetic: there is no other warp to fill the time
      const auto &k = now_there.keys, &v = now_there.values;
#pragma unroll
      for (uint32_t h = 0; h < kHeads; ++h) {
        float scores[kUnroll], now = maximum[h];
#pragma unroll
        for (uint32_t u = 0; u < kUnroll; ++u) {
          float score = 0;
#pragma unroll
          for (uint32_t i = 0; i < 8; ++i) score = fmaf(q[h][i], k[u][i], score);
#pragma unroll
          for (uint32_t step = kLanes / 2; step > 0; step /= 2) score += __shfl_xor_sync(0xffffffffu, score, step);
          scores[u] = score;
          if (start + u * kKeys + key < end) now = fmaxf(now, score);
        }
        const float factor = rescale(maximum[h], now);
        maximum[h] = now;
        total[h] *= factor;
#pragma unroll
        for (uint32_t i = 0; i < 8; ++i) sums[h][i] *= factor;
#pragma unroll
        for (uint32_t u = 0; u < kUnroll; ++u) {
          // Beyond the end the last visible position was read once more: its value is fit to be multiplied by zero.
          const float probability = start + u * kKeys + key < end ? exp2f(scores[u] - now) : 0.0f;
          total[h] += probability;
#pragma unroll
          for (uint32_t i = 0; i < 8; ++i) sums[h][i] = fmaf(probability, v[u][i], sums[h][i]);
        }
      }
    }
  }

  /// All parts of the block into one, part by part.
  __device__ __forceinline__ void combine_block() {
    if (threadIdx.x < kParts * kHeads) {
      const uint32_t part = threadIdx.x / kHeads, h = threadIdx.x % kHeads;
      float maximum = minus_infinity();
#pragma unroll
      for (uint32_t p = 0; p < kParts; ++p) maximum = fmaxf(maximum, shared.maximum[p][h]);
      shared.factor[part][h] = rescale(shared.maximum[part][h], maximum);
      if (part == 0) shared.block_maximum[h] = maximum;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < kHeads * kDims; i += kAttentionWarps * 32) {
      const uint32_t h = i / kDims, d = i % kDims;
      float total = 0, sum = 0;
#pragma unroll
      for (uint32_t part = 0; part < kParts; ++part) {
        total += shared.factor[part][h] * shared.total[part][h];
        sum += shared.factor[part][h] * shared.sums[(part * kHeads + h) * kDims + d];
      }
      shared.block_sums[h][d] = sum;
      if (d == 0) shared.block_total[h] = total;
    }
  }

  __device__ __forceinline__ void combine_cluster() {
    for (uint32_t i = threadIdx.x; i < kHeads * kDims; i += kAttentionWarps * 32) {
      const uint32_t h = i / kDims, d = i % kDims;
      if (h >= heads || d >= a.head_dim) continue;
      // All of the other blocks' memory is asked for before any of it is used.
      float maxima[kAttentionSplits], totals[kAttentionSplits], sums[kAttentionSplits];
      float maximum = minus_infinity(), total = 0, sum = 0;
#pragma unroll
      for (uint32_t rank = 0; rank < cluster_blocks(); ++rank) {
        const Shared& block = shared_of(shared, rank);
        maxima[rank] = block.block_maximum[h], totals[rank] = block.block_total[h], sums[rank] = block.block_sums[h][d];
      }
#pragma unroll
      for (uint32_t rank = 0; rank < cluster_blocks(); ++rank) maximum = fmaxf(maximum, maxima[rank]);
#pragma unroll
      for (uint32_t rank = 0; rank < cluster_blocks(); ++rank) {
        const float factor = rescale(maxima[rank], maximum);
        total += factor * totals[rank];
        sum += factor * sums[rank];
      }
      a.y[(row * a.heads + first_head + h) * a.head_dim + d] = sum / total;
    }
  }
};

template <typename Element, uint32_t kDims, uint32_t kHeads>
__device__ __forceinline__ void attend(const AttentionArgs& a, Shared& shared) {
  const bool aligned = is_aligned(a.keys) && is_aligned(a.values) && a.head_dim % 8 == 0;
  const uint64_t group = a.heads / a.key_value_heads, pieces_each = (group + kHeads - 1) / kHeads;
  const uint64_t pieces = a.key_value_heads * pieces_each;
  for (uint64_t row = blockIdx.z; row < a.rows; row += gridDim.z) {
    for (uint64_t piece = blockIdx.y; piece < pieces; piece += gridDim.y) {
      const uint64_t in_group = piece % pieces_each * kHeads, left = group - in_group;
      const uint64_t key_value_head = piece / pieces_each, heads = left < kHeads ? left : kHeads;
      const uint64_t first_head = key_value_head * group + in_group;
      if (aligned) {
        AttentionSplit<Element, kDims, kHeads, true>{a, shared, row, first_head, heads, key_value_head}.run();
      } else {
        AttentionSplit<Element, kDims, kHeads, false>{a, shared, row, first_head, heads, key_value_head}.run();
      }
    }
  }
}

template <typename Element>
__device__ __forceinline__ void attention_split(const AttentionArgs& a) {
  __shared__ Shared shared;
#if __CUDA_ARCH__ < 900
  if (blockIdx.x != 0) return;
#endif
  const bool alone = a.heads == a.key_value_heads;
  if (a.head_dim <= 64) {
    alone ? attend<Element, 64, 1>(a, shared) : attend<Element, 64, kAttentionHeads>(a, shared);
  } else if (a.head_dim <= 128) {
    alone ? attend<Element, 128, 1>(a, shared) : attend<Element, 128, kAttentionHeads>(a, shared);
  } else {
    alone ? attend<Element, 256, 1>(a, shared) : attend<Element, 256, kAttentionHeads>(a, shared);
  }
}

}  // namespace
}  // namespace spillway::decoder::cuda

SPILLWAY_ENTRIES_BY_DTYPE(attention_split, AttentionArgs,
                          SPILLWAY_CLUSTER __launch_bounds__(spillway::decoder::cuda::kAttentionWarps * 32, 1),
                          spillway::decoder::cuda::attention_split)
