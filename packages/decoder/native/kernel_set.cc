#include "kernel_set.hpp"

#include <spillway/kernel_image.hpp>

#if defined(SPILLWAY_TWINS_X86)
#include <cpuid.h>
#endif

#define SPILLWAY_DECLARE_IMAGE(name, image, twin) KernelImage image();
#define SPILLWAY_DECLARE_TWIN(name, image, twin) void twin(const spillway_twin_context* context, const void* arguments);
#define SPILLWAY_DESCRIBE_KERNEL(name, image, twin) describe(#name, images::image(), twin),
#define SPILLWAY_KERNEL_SET(set)                                                             \
  namespace set {                                                                            \
  SPILLWAY_DECODER_KERNELS(SPILLWAY_DECLARE_TWIN)                                            \
  const KernelSet kernel_set = {#set, {SPILLWAY_DECODER_KERNELS(SPILLWAY_DESCRIBE_KERNEL)}}; \
  }

namespace spillway::images {
SPILLWAY_DECODER_KERNELS(SPILLWAY_DECLARE_IMAGE)
}

namespace spillway::decoder {
namespace {

spillway_kernel describe(const char* name, KernelImage image, spillway_host_twin twin) {
  return {sizeof(spillway_kernel), SPILLWAY_KERNEL_STARTS_EARLY, name, image.data, image.bytes, twin};
}

}  // namespace

SPILLWAY_KERNEL_SET(baseline)
#if defined(SPILLWAY_TWINS_X86)
SPILLWAY_KERNEL_SET(avx2)
SPILLWAY_KERNEL_SET(avx512)

namespace {
// __builtin_cpu_supports("f16c") is newer than some compilers we support. That the system saves the registers is what
// "avx2" has checked.
bool supports_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
}  // namespace
#endif

std::vector<const KernelSet*> runnable_kernel_sets() {
  std::vector<const KernelSet*> sets;
#if defined(SPILLWAY_TWINS_X86)
  // Every -m flag that CMakeLists.txt compiles the set with.
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && supports_f16c();
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512) sets.push_back(&avx512::kernel_set);
  if (has_avx2) sets.push_back(&avx2::kernel_set);
#endif
  sets.push_back(&baseline::kernel_set);
  return sets;
}

}  // namespace spillway::decoder
