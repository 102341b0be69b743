// The kernels of this addon, described once for each instruction set that their host twins are compiled for.
#pragma once

#include <spillway/abi.h>

#include <vector>

#include "dtype.hpp"

// X(entry point, image, host twin). A kernel by dtype is three entry points, in the order of DType. An operation has
// several where device code differs by the number of rows (launch_shape.hpp chooses): its host twin is one.
#define SPILLWAY_KERNELS_BY_DTYPE(X, name, image, twin) \
  X(name##_f32, image, twin##_f32) X(name##_f16, image, twin##_f16) X(name##_bf16, image, twin##_bf16)
#define SPILLWAY_DECODER_KERNELS(X)                                         \
  SPILLWAY_KERNELS_BY_DTYPE(X, embedding, embedding, embedding)             \
  SPILLWAY_KERNELS_BY_DTYPE(X, rms_norm, rms_norm, rms_norm)                \
  SPILLWAY_KERNELS_BY_DTYPE(X, linear_vector, linear_vector, linear)        \
  SPILLWAY_KERNELS_BY_DTYPE(X, linear_few, linear_few, linear)              \
  SPILLWAY_KERNELS_BY_DTYPE(X, linear_tiles, linear_tiles, linear)          \
  SPILLWAY_KERNELS_BY_DTYPE(X, norm_linear, norm_linear, norm_linear)       \
  SPILLWAY_KERNELS_BY_DTYPE(X, norm_swiglu, norm_swiglu, norm_swiglu)       \
  SPILLWAY_KERNELS_BY_DTYPE(X, qk_norm, qk_norm, qk_norm)                   \
  SPILLWAY_KERNELS_BY_DTYPE(X, rope_append, rope_append, rope_append)       \
  SPILLWAY_KERNELS_BY_DTYPE(X, attention_split, attention_split, attention) \
  SPILLWAY_KERNELS_BY_DTYPE(X, attention_tiles, attention_tiles, attention) \
  X(silu_mul, silu_mul, silu_mul)                                           \
  X(split_bf16, split, split_bf16)

namespace spillway::decoder {

#define SPILLWAY_KERNEL_INDEX(name, image, twin) k_##name,
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
