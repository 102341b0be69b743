// Stored elements, f32, f16 and bf16, and how kernels read them eight at a time.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

namespace spillway::decoder::cuda {

using Float16 = __half;
using BFloat16 = __nv_bfloat16;

__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ float widen(Float16 value) { return __half2float(value); }
__device__ __forceinline__ float widen(BFloat16 value) { return __bfloat162float(value); }

// To the nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ void narrow(float value, float* to) { *to = value; }
__device__ __forceinline__ void narrow(float value, Float16* to) { *to = __float2half_rn(value); }
__device__ __forceinline__ void narrow(float value, BFloat16* to) { *to = __float2bfloat16_rn(value); }

__device__ __forceinline__ bool is_aligned(const void* address) {
  return (reinterpret_cast<uintptr_t>(address) & 15) == 0;
}

/// What memory holds: nobody writes weights while kernels run; a cache may have been written by the kernel ahead after
/// this one began (SPILLWAY_KERNEL_STARTS_EARLY), so it must not be read as if it were constant: no .nc, no __ldg.
enum class Source { kWeights, kWritten };

/// 16 bytes that are read once: they must not drive from the first-level cache what is read again.
template <Source kSource>
__device__ __forceinline__ uint4 load_streaming(const void* from) {
  uint4 bits;
  if constexpr (kSource == Source::kWeights) {
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
                 : "l"(from));
  } else {
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
                 : "l"(from));
  }
  return bits;
}

/// Eight neighbours as they are stored: fewer registers than eight floats while a load is under way.
template <typename Element>
struct alignas(16) Eight {
  static constexpr uint32_t kVectors = sizeof(Element) / 2;
  uint4 bits[kVectors];

  __device__ __forceinline__ float operator[](uint32_t i) const {
    return widen(reinterpret_cast<const Element*>(bits)[i]);
  }
};

/// Elements k … k + 7 of a row of `length`, zeros beyond its end; reads nothing there. kAligned: the row starts at a
/// multiple of 16 bytes and its length is one of 8; operands are aligned to their dtype only, so kernels ask before.
template <Source kSource, bool kAligned, typename Element>
__device__ __forceinline__ Eight<Element> load_eight(const Element* row, uint64_t k, uint64_t length) {
  Eight<Element> eight;
  if constexpr (kAligned) {
    // The row's start instead of a branch: the compiler puts loads under a condition one after another.
    const uint4* from = reinterpret_cast<const uint4*>(row + (k < length ? k : 0));
#pragma unroll
    for (uint32_t v = 0; v < Eight<Element>::kVectors; ++v) {
      eight.bits[v] = load_streaming<kSource>(from + v);
      if (k >= length) eight.bits[v] = make_uint4(0, 0, 0, 0);
    }
  } else {
    Element* elements = reinterpret_cast<Element*>(eight.bits);
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) narrow(k + i < length ? widen(row[k + i]) : 0.0f, elements + i);
  }
  return eight;
}

/// As load_eight, of floats that are read again, by other warps or for other outputs.
template <bool kAligned>
__device__ __forceinline__ void load_eight_floats(const float* row, uint64_t k, uint64_t length, float (&to)[8]) {
  if constexpr (kAligned) {
    const float4* from = reinterpret_cast<const float4*>(row + (k < length ? k : 0));
    const float4 low = from[0], high = from[1];
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) to[i] = k < length ? to[i] : 0.0f;
  } else {
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) to[i] = k + i < length ? row[k + i] : 0.0f;
  }
}

/// All lanes' sum, in each, always added in the same order.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int32_t step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

/// After it the kernels ahead on the stream are done. The one behind may start from here on, to wait in its turn: not
/// sooner, or it would wait for one that has not begun.
__device__ __forceinline__ void await_work_ahead() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace spillway::decoder::cuda

// One entry point for each dtype, named as kernel_set.hpp names it. `bounds` is __launch_bounds__(…) or nothing.
#define SPILLWAY_ENTRY(name, Arguments, bounds, run)                            \
  extern "C" __global__ void bounds name(const __grid_constant__ Arguments a) { \
    spillway::decoder::cuda::await_work_ahead();                                \
    run(a);                                                                     \
  }
#define SPILLWAY_ENTRIES_BY_DTYPE(name, Arguments, bounds, run)                        \
  SPILLWAY_ENTRY(name##_f32, Arguments, bounds, run<float>)                            \
  SPILLWAY_ENTRY(name##_f16, Arguments, bounds, run<spillway::decoder::cuda::Float16>) \
  SPILLWAY_ENTRY(name##_bf16, Arguments, bounds, run<spillway::decoder::cuda::BFloat16>)
