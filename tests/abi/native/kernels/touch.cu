// The device's form of touch_twin in ../touch.cc: the same bytes come out. Its first block does all the work, since
// each range may depend on the one before; with `parallel` with all of its threads, else with one.
#include <spillway/abi.h>

#include "touch_arguments.hpp"

namespace abi_probe {
namespace {

// SplitMix64's finalizer, as in ../touch.cc.
__device__ uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

// What a thread wrote before, every thread of the block reads after. The fence is for one page at two addresses.
__device__ void block_barrier() {
  __syncthreads();
  asm volatile("fence.proxy.alias;" ::: "memory");
}

}  // namespace

extern "C" __global__ void touch(const __grid_constant__ TouchArguments arguments) {
  if (blockIdx.x != 0 || blockIdx.y != 0 || blockIdx.z != 0) return;
  const uint32_t thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const uint32_t threads = arguments.parallel ? blockDim.x * blockDim.y * blockDim.z : 1;
  const bool works = thread < threads;
  __shared__ unsigned long long total;

  uint64_t hash = mix(arguments.seed);
  for (uint32_t index = 0; index < arguments.count; ++index) {
    const TouchRange& range = arguments.ranges[index];
    auto* bytes = reinterpret_cast<uint8_t*>(range.address);
    if (range.mode & SPILLWAY_ACCESS_READ) {
      if (thread == 0) total = 0;
      __syncthreads();
      uint64_t sum = 0;
      for (uint64_t i = thread; works && i < range.bytes; i += threads) sum += mix((i << 8 | bytes[i]) + 1);
      if (works) atomicAdd(&total, sum);
      __syncthreads();
      hash = mix(hash ^ total);
      __syncthreads();  // all have read `total`, and the range, before either is written
    }
    if (range.mode & SPILLWAY_ACCESS_WRITE) {
      for (uint64_t i = thread; works && i < range.bytes; i += threads) bytes[i] = mix(hash + i) >> 56;
      block_barrier();
    }
  }
}

}  // namespace abi_probe
