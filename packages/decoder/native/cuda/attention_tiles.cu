// Attention for many rows: a block takes a tile of rows of one query head and steps over the keys they see, products
// on the matrix units with nearly f32's precision, softmax as it goes (Dao et al., "FlashAttention", 2022).
#include "../kernels/attention_args.h"
#include "fragment.cuh"
#include "launch_shape.hpp"

namespace spillway::decoder::cuda {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr float kLargest = 3.402823466e38f;

__device__ __forceinline__ float minus_infinity() { return __int_as_float(static_cast<int32_t>(0xff800000)); }
__device__ __forceinline__ float rescale(float before, float now) { return before == now ? 1.0f : exp2f(before - now); }
/// Of the four lanes that have parts of the same two rows.
__device__ __forceinline__ float quad_maximum(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ __forceinline__ float quad_sum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

template <typename Element, uint32_t kDims>
struct AttentionTiles {
  static constexpr uint32_t kQueries = tile_queries(kDims), kKeys = tile_keys(kDims), kThreads = kQueries * 2;
  // Rows of queries and keys are read four floats at a time by two rows' lanes, values one float at a time by eight
  // rows': these distances let each of them meet all banks.
  static constexpr uint32_t kKeyStride = key_stride(kDims), kValueStride = value_stride(kDims);
  static constexpr uint32_t kKeyTiles = kKeys / 8, kDimTiles = kDims / 8;

  const AttentionArgs& a;
  float* const queries;
  float* const keys;
  float* const values;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  const bool aligned = is_aligned(a.keys) && is_aligned(a.values) && a.head_dim % 8 == 0;
  uint64_t first_row, head, key_value_head;
  int64_t visible[2];  // how many positions this lane's rows, g and g + 8 of the warp's, see
  float sums[kDimTiles][4], maximum[2], total[2];

  __device__ __forceinline__ AttentionTiles(const AttentionArgs& arguments, float* shared)
      : a(arguments), queries(shared), keys(queries + kQueries * kKeyStride), values(keys + kKeys * kKeyStride) {}

  /// A row outside the matrix or the cache sees nothing.
  __device__ __forceinline__ int64_t seen_by(uint64_t row) const {
    const int64_t position = int64_t{*a.position} + static_cast<int64_t>(row);
    return row < a.rows && position >= 0 && position < int64_t{a.context} ? position + 1 : 0;
  }

  __device__ __forceinline__ void load_queries() {
    const uint64_t width = (uint64_t{a.heads} + 2 * uint64_t{a.key_value_heads}) * a.head_dim;
    for (uint32_t i = threadIdx.x; i < kQueries * kDims; i += kThreads) {
      const uint32_t query = i / kDims, d = i % kDims;
      const uint64_t row = first_row + query;
      const bool inside = row < a.rows && d < a.head_dim;
      // Scores to base 2, for which the hardware has an exponential.
      queries[query * kKeyStride + d] = inside ? a.qkv[row * width + head * a.head_dim + d] * a.scale * kLog2E : 0.0f;
    }
  }

  /// Positions [start, start + kKeys) of keys and values, zeros from `end` on. Says whether a value is not finite.
  template <bool kAligned>
  __device__ __forceinline__ bool load_keys(int64_t start, int64_t end) {
    const uint64_t cache_width = uint64_t{a.key_value_heads} * a.head_dim, column = key_value_head * a.head_dim;
    bool special = false;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < kKeys * kDims / 8; i += kThreads) {
      const uint32_t key = i / (kDims / 8), d = i % (kDims / 8) * 8;
      const int64_t position = start + key;
      const uint64_t at = static_cast<uint64_t>(position < end ? position : 0) * cache_width + column;
      const uint64_t length = position < end ? a.head_dim : 0;
      const auto k = load_eight<Source::kWritten, kAligned>(static_cast<const Element*>(a.keys) + at, d, length);
      const auto v = load_eight<Source::kWritten, kAligned>(static_cast<const Element*>(a.values) + at, d, length);
      float* key_row = keys + key * kKeyStride + d;
      float* value_row = values + key * kValueStride + d;
#pragma unroll
      for (uint32_t j = 0; j < 8; j += 4) {
        *reinterpret_cast<float4*>(key_row + j) = make_float4(k[j], k[j + 1], k[j + 2], k[j + 3]);
        *reinterpret_cast<float4*>(value_row + j) = make_float4(v[j], v[j + 1], v[j + 2], v[j + 3]);
      }
#pragma unroll
      for (uint32_t j = 0; j < 8; ++j) special |= !(fabsf(v[j]) <= kLargest);
    }
    return special;
  }

  __device__ __forceinline__ void score(float (&scores)[kKeyTiles][4]) const {
    const float* low_row = queries + (warp * 16 + g) * kKeyStride;
    const float* high_row = low_row + 8 * kKeyStride;
#pragma unroll
    for (uint32_t d = 0; d < kDims; d += 16) {
      const float4 low = *reinterpret_cast<const float4*>(low_row + d + 4 * q);
      const float4 high = *reinterpret_cast<const float4*>(high_row + d + 4 * q);
      const SplitRows rows({low.x, low.y, low.z, low.w}, {high.x, high.y, high.z, high.w});
#pragma unroll
      for (uint32_t t = 0; t < kKeyTiles; ++t) {
        const float4 k = *reinterpret_cast<const float4*>(keys + (t * 8 + g) * kKeyStride + d + 4 * q);
        multiply_split<kExactInTf32<Element>>(scores[t], rows, {k.x, k.y, k.z, k.w});
      }
    }
  }

  /// Which keys of the step at `start` a half's row sees: [x, y).
  __device__ __forceinline__ int2 seen_of_step(uint32_t half, int64_t start) const {
    const int64_t seen = visible[half] - start, left = a.window == 0 ? 0 : seen - int64_t{a.window};
    constexpr int64_t kBehind = kKeys;
    return make_int2(static_cast<int32_t>(left < 0         ? 0
                                          : left < kBehind ? left
                                                           : kBehind),
                     static_cast<int32_t>(seen < 0         ? 0
                                          : seen < kBehind ? seen
                                                           : kBehind));
  }
  static __device__ __forceinline__ bool contains(int2 range, uint32_t key) {
    return static_cast<int32_t>(key) >= range.x && static_cast<int32_t>(key) < range.y;
  }

  /// From scores to probabilities; scales back what was summed under a smaller maximum.
  __device__ __forceinline__ void softmax_step(float (&scores)[kKeyTiles][4], int64_t start) {
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      const int2 seen = seen_of_step(half, start);
      float now = maximum[half];
#pragma unroll
      for (uint32_t t = 0; t < kKeyTiles; ++t) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
          if (contains(seen, t * 8 + 2 * q + i)) now = fmaxf(now, scores[t][2 * half + i]);
        }
      }
      now = quad_maximum(now);
      const float factor = rescale(maximum[half], now);
      maximum[half] = now;
      // Never fused with the addition that follows: the compiler did so for one half and not for the other, and a row's
      // bits depended on its place in the tile.
      total[half] = __fmul_rn(total[half], factor);
#pragma unroll
      for (uint32_t t = 0; t < kDimTiles; ++t) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) sums[t][2 * half + i] = __fmul_rn(sums[t][2 * half + i], factor);
      }
#pragma unroll
      for (uint32_t t = 0; t < kKeyTiles; ++t) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
          float& value = scores[t][2 * half + i];
          value = contains(seen, t * 8 + 2 * q + i) ? exp2f(value - now) : 0.0f;
          total[half] += value;
        }
      }
    }
  }

  /// Inputs of a fragment are keys here; which of them a lane brings follows from which scores it was given. Each step
  /// is summed from zero, for the matrix units cut long sums off instead of rounding them.
  __device__ __forceinline__ void add_values(const float (&p)[kKeyTiles][4]) {
    const float* first = values + 2 * q * kValueStride + g;
#pragma unroll
    for (uint32_t t = 0; t < kKeyTiles; t += 2) {
      const SplitRows rows({p[t][0], p[t][1], p[t + 1][0], p[t + 1][1]}, {p[t][2], p[t][3], p[t + 1][2], p[t + 1][3]});
#pragma unroll
      for (uint32_t d = 0; d < kDimTiles; ++d) {
        const float* at = first + t * 8 * kValueStride + d * 8;
        float part[4] = {};
        multiply_split<kExactInTf32<Element>>(part, rows,
                                              {at[0], at[kValueStride], at[8 * kValueStride], at[9 * kValueStride]});
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) sums[d][i] += part[i];
      }
    }
  }

  /// As add_values, but what a row does not see is left out instead of multiplied by zero: NaN or infinity of a later
  /// row, or of one that has left the window, must not come into it.
  __device__ void add_visible_values(const float (&p)[kKeyTiles][4], int64_t start) {
    static_assert(kQueries * kKeys <= kKeys * kKeyStride);
    __syncthreads();  // the keys have been read: probabilities take their place, each warp's its own part
    float* low_row = keys + (warp * 16 + g) * kKeys;
    float* high_row = low_row + 8 * kKeys;
#pragma unroll
    for (uint32_t t = 0; t < kKeyTiles; ++t) {
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) low_row[t * 8 + 2 * q + i] = p[t][i], high_row[t * 8 + 2 * q + i] = p[t][2 + i];
    }
    __syncwarp();
    const int2 low_seen = seen_of_step(0, start), high_seen = seen_of_step(1, start);
#pragma unroll 1
    for (uint32_t key = 0; key < kKeys; ++key) {
      const float low = low_row[key], high = high_row[key];
      const bool low_sees = contains(low_seen, key), high_sees = contains(high_seen, key);
#pragma unroll
      for (uint32_t d = 0; d < kDimTiles; ++d) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
          const float value = values[key * kValueStride + d * 8 + 2 * q + i];
          if (low_sees) sums[d][i] = fmaf(low, value, sums[d][i]);
          if (high_sees) sums[d][2 + i] = fmaf(high, value, sums[d][2 + i]);
        }
      }
    }
  }

  __device__ __forceinline__ void run(uint64_t row, uint64_t query_head) {
    first_row = row;
    head = query_head;
    key_value_head = head / (a.heads / a.key_value_heads);
    const uint64_t rows = row + kQueries < a.rows ? row + kQueries : a.rows;
    const int64_t first_position = int64_t{*a.position} + static_cast<int64_t>(row), context = a.context;
    const int64_t behind = int64_t{*a.position} + static_cast<int64_t>(rows);
    // Of what any row of the tile sees.
    const int64_t end = first_position >= context ? 0 : behind < context ? behind : context;
    const uint64_t warp_row = row + warp * 16;
    visible[0] = seen_by(warp_row + g), visible[1] = seen_by(warp_row + g + 8);
    maximum[0] = maximum[1] = minus_infinity();
    total[0] = total[1] = 0;
#pragma unroll
    for (uint32_t t = 0; t < kDimTiles; ++t) sums[t][0] = sums[t][1] = sums[t][2] = sums[t][3] = 0;
    __syncthreads();  // the tile before has been read
    load_queries();
    // Steps begin where they would without a window: which rows share a tile changes nothing.
    const int64_t begin = a.window == 0 || first_position < a.window ? 0 : first_position + 1 - a.window;
    const int64_t first = begin / kKeys * kKeys;
    for (int64_t start = first; start < end; start += kKeys) {
      if (start > first) __syncthreads();  // the keys before have been read
      const bool is_special = aligned ? load_keys<true>(start, end) : load_keys<false>(start, end);
      const bool special = __syncthreads_or(is_special) != 0;
      float scores[kKeyTiles][4] = {};
      score(scores);
      softmax_step(scores, start);
      if (special) {
        add_visible_values(scores, start);
      } else {
        add_values(scores);
      }
    }
    write();
  }

  __device__ __forceinline__ void write() const {
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      const float sum = quad_sum(total[half]);
      const uint64_t row = first_row + warp * 16 + g + 8 * half;
      if (row >= a.rows) continue;
      float* y = a.y + (row * a.heads + head) * a.head_dim;
#pragma unroll
      for (uint32_t t = 0; t < kDimTiles; ++t) {
#pragma unroll
        for (uint32_t i = 0; i < 2; ++i) {
          const uint32_t d = t * 8 + 2 * q + i;
          if (d < a.head_dim) y[d] = sums[t][2 * half + i] / sum;
        }
      }
    }
  }
};

template <typename Element, uint32_t kDims>
__device__ __forceinline__ void attend(const AttentionArgs& a, float* shared) {
  AttentionTiles<Element, kDims> tiles(a, shared);
  // The last rows see most: their blocks first, so that none of them is left over at the end.
  const uint64_t row = uint64_t{gridDim.x - 1 - blockIdx.x} * tiles.kQueries;
  for (uint64_t head = blockIdx.y; head < a.heads; head += gridDim.y) tiles.run(row, head);
}

template <typename Element>
__device__ __forceinline__ void attention_tiles(const AttentionArgs& a) {
  extern __shared__ float4 shared[];
  float* const memory = reinterpret_cast<float*>(shared);
  if (a.head_dim <= 64) {
    attend<Element, 64>(a, memory);
  } else if (a.head_dim <= 128) {
    attend<Element, 128>(a, memory);
  } else {
    attend<Element, 256>(a, memory);
  }
}

}  // namespace
}  // namespace spillway::decoder::cuda

SPILLWAY_ENTRIES_BY_DTYPE(attention_tiles, AttentionArgs, __launch_bounds__(128),
                          spillway::decoder::cuda::attention_tiles)
