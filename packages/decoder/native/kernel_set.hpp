// The kernels of this addon, described once for each instruction set that their host twins are compiled for.
#pragma once

#include <spillway/abi.h>

#include <string>
#include <vector>

// A kernel by dtype is three entry points, in the order of DType.
#define SPILLWAY_DECODER_KERNELS_BY_DTYPE(name, X) X(name##_f32) X(name##_f16) X(name##_bf16)
#define SPILLWAY_DECODER_KERNELS(X)                 \
  SPILLWAY_DECODER_KERNELS_BY_DTYPE(embedding, X)   \
  SPILLWAY_DECODER_KERNELS_BY_DTYPE(rms_norm, X)    \
  SPILLWAY_DECODER_KERNELS_BY_DTYPE(linear, X)      \
  SPILLWAY_DECODER_KERNELS_BY_DTYPE(qk_norm, X)     \
  SPILLWAY_DECODER_KERNELS_BY_DTYPE(rope_append, X) \
  SPILLWAY_DECODER_KERNELS_BY_DTYPE(attention, X)   \
  X(silu_mul)

namespace spillway::decoder {

/// How weights and caches are stored. The numbers are those of kernels.ts.
enum class DType : uint32_t { kF32 = 0, kF16 = 1, kBF16 = 2 };
inline constexpr uint32_t kDTypes = 3;

#define SPILLWAY_KERNEL_INDEX(name) k_##name,
enum KernelIndex : uint32_t { SPILLWAY_DECODER_KERNELS(SPILLWAY_KERNEL_INDEX) kKernelCount };
#undef SPILLWAY_KERNEL_INDEX

/// Immutable and of static lifetime, as the ABI asks of a spillway_kernel: work enqueued outlives its environment.
struct KernelSet {
  const char* instruction_set;
  spillway_kernel kernels[kKernelCount];
};

/// Those this processor can run, best first; never empty.
std::vector<const KernelSet*> runnable_kernel_sets();

}  // namespace spillway::decoder
