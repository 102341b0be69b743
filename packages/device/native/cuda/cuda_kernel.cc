#include "cuda_kernel.hpp"

#include "../failure.hpp"
#include "cuda_device.hpp"
#include "module_cache.hpp"

namespace spillway::device::cuda {
namespace {

// The driver reads what it is given by its first bytes, and trusts the rest.
bool looks_like_image(const std::string& image) {
  const bool elf = image.compare(0, 4,
                                 "\x7f"
                                 "ELF") == 0;
  const bool fatbin = image.compare(0, 4, "\x50\xed\x55\xba") == 0;
  const bool ptx = image.find(".version") != std::string::npos && image.find('\0') == std::string::npos;
  return elf || fatbin || ptx;
}

}  // namespace

CudaKernel::CudaKernel(CudaDevice& device, const std::string& image, std::string name)
    : Object(SPILLWAY_KIND_KERNEL, &device), name_(std::move(name)), shared_bytes_(kSharedWithoutAsking) {
  if (!looks_like_image(image)) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "kernel_load", "the image is no cubin, fatbin or PTX, as nvcc writes them");
  }
  load_apart([&] {
    device.enter("kernel_load");
    device.check(driver().cuModuleLoadData(&module_, image.c_str()), "cuModuleLoadData");
    try {
      device.check(driver().cuModuleGetFunction(&function_, module_, name_.c_str()), "cuModuleGetFunction");
    } catch (...) {
      driver().cuModuleUnload(module_);
      throw;
    }
  });
}

CudaKernel::~CudaKernel() {
  cuda().enter_to_free();
  if (function_) driver().cuModuleUnload(module_);
}

CudaDevice& CudaKernel::cuda() { return *static_cast<CudaDevice*>(device()); }

FunctionHandle CudaKernel::function(uint32_t shared_bytes) {
  std::lock_guard lock(mutex_);
  if (shared_bytes > shared_bytes_) {
    cuda().check(driver().cuFuncSetAttribute(function_, kMaximumSharedBytes, static_cast<int32_t>(shared_bytes)),
                 "cuFuncSetAttribute");
    shared_bytes_ = shared_bytes;
  }
  return function_;
}

}  // namespace spillway::device::cuda
