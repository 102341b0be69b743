#include "../kernels/qk_norm_args.h"
#include "element.cuh"
#include "launch_shape.hpp"

namespace spillway::decoder::cuda {
namespace {

/// One head by one warp, in place.
template <typename Element>
__device__ __forceinline__ void normalize(float* x, const Element* weight, uint32_t head_dim, float epsilon) {
  const uint32_t lane = threadIdx.x % 32;
  float sum = 0;
  for (uint32_t i = lane; i < head_dim; i += 32) sum += x[i] * x[i];
  const float factor = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(head_dim) + epsilon);
  for (uint32_t i = lane; i < head_dim; i += 32) x[i] = x[i] * factor * widen(weight[i]);
}

template <typename Element>
__device__ void qk_norm(const QkNormArgs& a) {
  const uint32_t warps = blockDim.x / 32;
  const uint64_t normed = uint64_t{a.heads} + a.key_value_heads;
  float* row = a.qkv + blockIdx.x * (normed + a.key_value_heads) * a.head_dim;
  for (uint64_t head = uint64_t{blockIdx.y} * warps + threadIdx.x / 32; head < normed;
       head += uint64_t{gridDim.y} * warps) {
    const auto* weight = static_cast<const Element*>(head < a.heads ? a.q_weight : a.k_weight);
    normalize(row + head * a.head_dim, weight, a.head_dim, a.epsilon);
  }
}

}  // namespace
}  // namespace spillway::decoder::cuda

SPILLWAY_ENTRIES_BY_DTYPE(qk_norm, QkNormArgs, , spillway::decoder::cuda::qk_norm)
