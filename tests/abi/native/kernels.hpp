// Kernels with host twins, as a backend would bring them.
#pragma once

#include <spillway/abi.h>

#include <cstddef>

namespace abi_probe {

struct SaxpyArguments {
  const float* x;
  float* y;
  uint64_t count;
  float a;
};
/// y += a · x, f32 [count].
extern const spillway_kernel kSaxpy;

struct CoverArguments {
  uint32_t* visits;  // u32 [count]
  uint64_t count;
  uint64_t grain;
};
/// Adds 1 to every element: more or less shows where parallel_for visits twice or never.
extern const spillway_kernel kCover;

struct alignas(std::max_align_t) ContextArguments {
  long double first;  // demands the largest alignment
  uint64_t* out;      // u64 [10]
};
/// Writes what the twin was given: threads, grid, block, struct_size, misalignment of the arguments, whether `first`
/// is 1.5.
extern const spillway_kernel kContext;

/// For a device only: has no host twin.
extern const spillway_kernel kNoTwin;

}  // namespace abi_probe
