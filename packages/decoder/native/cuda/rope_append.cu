#include "../kernels/rope_append_args.h"
#include "element.cuh"
#include "launch_shape.hpp"

namespace spillway::decoder::cuda {
namespace {

/// One head of one row: a query head is rotated where it lies, a key head into the cache, a value head copied there.
template <typename Element>
__device__ void rope_append_head(const RopeAppendArgs& a, uint64_t row, uint64_t head) {
  const uint64_t head_dim = a.head_dim, half = head_dim / 2;
  const uint64_t width = (uint64_t{a.heads} + 2 * uint64_t{a.key_value_heads}) * head_dim;
  const int64_t position = int64_t{*a.position} + static_cast<int64_t>(row);
  const bool kept = position >= 0 && position < int64_t{a.context};
  float* from = a.qkv + row * width + head * head_dim;
  if (head >= a.heads && !kept) return;
  const uint64_t cache_row = static_cast<uint64_t>(position) * a.key_value_heads * head_dim;
  if (head >= uint64_t{a.heads} + a.key_value_heads) {
    const uint64_t value_head = head - a.heads - a.key_value_heads;
    Element* to = static_cast<Element*>(a.values) + cache_row + value_head * head_dim;
    for (uint64_t i = threadIdx.x; i < head_dim; i += blockDim.x) narrow(from[i], to + i);
    return;
  }
  for (uint64_t i = threadIdx.x; i < half; i += blockDim.x) {
    // f32 all through, as Hugging Face computes it: more exact angles would differ from what models were trained on.
    const float angle = static_cast<float>(position) * a.inverse_frequency[i];
    float sine, cosine;
    sincosf(angle, &sine, &cosine);
    sine *= a.scaling;
    cosine *= a.scaling;
    const float low = from[i], high = from[i + half];
    const float rotated_low = low * cosine - high * sine, rotated_high = high * cosine + low * sine;
    if (head < a.heads) {
      from[i] = rotated_low;
      from[i + half] = rotated_high;
    } else {
      Element* to = static_cast<Element*>(a.keys) + cache_row + (head - a.heads) * head_dim;
      narrow(rotated_low, to + i);
      narrow(rotated_high, to + i + half);
    }
  }
}

template <typename Element>
__device__ void rope_append(const RopeAppendArgs& a) {
  const uint64_t heads = uint64_t{a.heads} + 2 * uint64_t{a.key_value_heads};
  for (uint64_t head = blockIdx.y; head < heads; head += gridDim.y) rope_append_head<Element>(a, blockIdx.x, head);
}

}  // namespace
}  // namespace spillway::decoder::cuda

SPILLWAY_ENTRIES_BY_DTYPE(rope_append, RopeAppendArgs, , spillway::decoder::cuda::rope_append)
