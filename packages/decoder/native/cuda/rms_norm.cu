#include "../kernels/rms_norm_args.h"
#include "element.cuh"
#include "launch_shape.hpp"

namespace spillway::decoder::cuda {
namespace {

template <typename Element>
__device__ void rms_norm(const RmsNormArgs& a) {
  __shared__ float warp_sums[32];
  const uint64_t hidden = a.hidden;
  const float* x = a.x + blockIdx.x * hidden;
  float* y = a.y + blockIdx.x * hidden;
  // A fixed share for each thread and a fixed order of adding: the same bits in every run.
  float sum = 0;
  const bool aligned = is_aligned(x) && is_aligned(y) && hidden % 4 == 0;
  if (aligned) {
    for (uint64_t i = 4 * threadIdx.x; i < hidden; i += 4 * blockDim.x) {
      const float4 value = *reinterpret_cast<const float4*>(x + i);
      sum += (value.x * value.x + value.y * value.y) + (value.z * value.z + value.w * value.w);
    }
  } else {
    for (uint64_t i = threadIdx.x; i < hidden; i += blockDim.x) sum += x[i] * x[i];
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? warp_sums[threadIdx.x % 32] : 0.0f);
  const float factor = 1.0f / sqrtf(sum / static_cast<float>(hidden) + a.epsilon);
  const Element* weight = static_cast<const Element*>(a.weight);
  if (aligned) {
    for (uint64_t i = 4 * threadIdx.x; i < hidden; i += 4 * blockDim.x) {
      float4 value = *reinterpret_cast<const float4*>(x + i);
      value.x = value.x * factor * widen(weight[i]);
      value.y = value.y * factor * widen(weight[i + 1]);
      value.z = value.z * factor * widen(weight[i + 2]);
      value.w = value.w * factor * widen(weight[i + 3]);
      *reinterpret_cast<float4*>(y + i) = value;
    }
  } else {
    for (uint64_t i = threadIdx.x; i < hidden; i += blockDim.x) y[i] = x[i] * factor * widen(weight[i]);
  }
}

}  // namespace
}  // namespace spillway::decoder::cuda

SPILLWAY_ENTRIES_BY_DTYPE(rms_norm, RmsNormArgs, , spillway::decoder::cuda::rms_norm)
