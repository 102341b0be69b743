#include "../kernels/silu_mul_args.h"
#include "element.cuh"
#include "launch_shape.hpp"
#include "silu.cuh"

extern "C" __global__ void silu_mul(const __grid_constant__ SiluMulArgs a) {
  using namespace spillway::decoder::cuda;
  await_work_ahead();
  const uint64_t ffn = a.ffn;
  const float* gate = a.gate_up + blockIdx.x * 2 * ffn;
  const float* up = gate + ffn;
  float* y = a.y + blockIdx.x * ffn;
  const bool aligned = is_aligned(gate) && is_aligned(y) && ffn % kElementsEach == 0;
  const uint64_t step = uint64_t{gridDim.y} * blockDim.x * kElementsEach;
  for (uint64_t i = (uint64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kElementsEach; i < ffn; i += step) {
    if (aligned) {
      const float4 g = *reinterpret_cast<const float4*>(gate + i), u = *reinterpret_cast<const float4*>(up + i);
      *reinterpret_cast<float4*>(y + i) =
          make_float4(silu(g.x) * u.x, silu(g.y) * u.y, silu(g.z) * u.z, silu(g.w) * u.w);
    } else {
      for (uint64_t j = i; j < ffn && j < i + kElementsEach; ++j) y[j] = silu(gate[j]) * up[j];
    }
  }
}
