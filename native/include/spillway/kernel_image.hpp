// Device code embedded by spillway_kernels() of cmake/SpillwayAddon.cmake. For each <name>.cu given to it, the addon
// has a function; declare it where a kernel is described:
//
//   namespace spillway::images { KernelImage saxpy(); }  // saxpy.cu
//
//   const spillway::KernelImage image = spillway::images::saxpy();
//   const spillway_kernel kSaxpy = {sizeof kSaxpy, 0, "saxpy", image.data, image.bytes, saxpy_twin};
//
// A kernel's name in the .cu is its name here, so it is `extern "C"`; its one parameter is the argument struct, by
// value:
//
//   extern "C" __global__ void saxpy(const __grid_constant__ SaxpyArguments arguments) { … }
#pragma once

#include <stdint.h>

namespace spillway {

/// What `image` and `image_bytes` of a spillway_kernel take. Static lifetime. NULL and 0 where the addon was built
/// without nvcc: the kernel then runs on devices that use its host twin, and others answer NO_KERNELS.
struct KernelImage {
  const void* data;
  uint64_t bytes;
};

}  // namespace spillway
