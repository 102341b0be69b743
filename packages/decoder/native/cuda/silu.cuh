#pragma once

namespace spillway::decoder::cuda {

__device__ __forceinline__ float silu(float x) { return x / (expf(-x) + 1.0f); }

}  // namespace spillway::decoder::cuda
