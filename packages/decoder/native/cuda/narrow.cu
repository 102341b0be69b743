#include "element.cuh"
#include "launch_shape.hpp"
#include "narrow_args.h"

namespace spillway::decoder::cuda {
namespace {

template <typename Element>
__device__ void narrow_elements(const NarrowArgs& a) {
  const uint64_t first = (uint64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kElementsEach;
  Element* y = static_cast<Element*>(a.y);
  if (first + kElementsEach <= a.count && is_aligned(a.x) && is_aligned(a.y)) {
    const float4 x = *reinterpret_cast<const float4*>(a.x + first);
    alignas(8) Element rounded[kElementsEach];
    narrow(x.x, rounded);
    narrow(x.y, rounded + 1);
    narrow(x.z, rounded + 2);
    narrow(x.w, rounded + 3);
    *reinterpret_cast<uint2*>(y + first) = *reinterpret_cast<const uint2*>(rounded);
    return;
  }
  for (uint64_t i = first; i < a.count && i < first + kElementsEach; ++i) narrow(a.x[i], y + i);
}

}  // namespace
}  // namespace spillway::decoder::cuda

extern "C" __global__ void narrow_f16(const __grid_constant__ NarrowArgs a) {
  spillway::decoder::cuda::narrow_elements<spillway::decoder::cuda::Float16>(a);
}
extern "C" __global__ void narrow_bf16(const __grid_constant__ NarrowArgs a) {
  spillway::decoder::cuda::narrow_elements<spillway::decoder::cuda::BFloat16>(a);
}
