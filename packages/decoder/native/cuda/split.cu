#include "../kernels/split_args.h"
#include "element.cuh"
#include "launch_shape.hpp"

namespace spillway::decoder::cuda {
namespace {

__device__ __forceinline__ void split(float x, BFloat16* first, BFloat16* second) {
  narrow(x, first);
  narrow(x - widen(*first), second);
}

}  // namespace
}  // namespace spillway::decoder::cuda

extern "C" __global__ void split_bf16(const __grid_constant__ SplitArgs a) {
  using namespace spillway::decoder::cuda;
  await_work_ahead();
  auto* first = static_cast<BFloat16*>(a.parts);
  BFloat16* second = first + a.count;
  const bool aligned = is_aligned(a.x) && is_aligned(first) && is_aligned(second);
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x * kElementsEach;
  for (uint64_t i = (uint64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kElementsEach; i < a.count; i += step) {
    if (aligned && i + kElementsEach <= a.count) {
      const float4 x = *reinterpret_cast<const float4*>(a.x + i);
      alignas(8) BFloat16 parts[2][kElementsEach];
      split(x.x, parts[0], parts[1]);
      split(x.y, parts[0] + 1, parts[1] + 1);
      split(x.z, parts[0] + 2, parts[1] + 2);
      split(x.w, parts[0] + 3, parts[1] + 3);
      *reinterpret_cast<uint2*>(first + i) = *reinterpret_cast<const uint2*>(parts[0]);
      *reinterpret_cast<uint2*>(second + i) = *reinterpret_cast<const uint2*>(parts[1]);
    } else {
      for (uint64_t j = i; j < a.count && j < i + kElementsEach; ++j) split(a.x[j], first + j, second + j);
    }
  }
}
