#include "driver.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>

#include "../failure.hpp"

namespace spillway::device::cuda {
namespace {

using GetProcAddress = Result (*)(const char* name, void** function, int32_t version, uint64_t flags, int32_t* found);

// CUDA 12 changed the interface of cuGetProcAddress itself.
constexpr int32_t kLeastVersion = 12000;

std::string describe(int32_t version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Driver open_driver() {
  Driver driver;
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* why = dlerror();
    driver.unavailable = std::string("no NVIDIA driver: ") + (why ? why : "libcuda.so.1 not found");
    return driver;
  }
  auto initialize = reinterpret_cast<Result (*)(uint32_t)>(dlsym(library, "cuInit"));
  auto get_address = reinterpret_cast<GetProcAddress>(dlsym(library, "cuGetProcAddress_v2"));
  if (initialize == nullptr || get_address == nullptr) {
    driver.unavailable = "the NVIDIA driver is older than CUDA " + describe(kLeastVersion) + "; install a newer one";
    return driver;
  }
  if (const Result result = initialize(0); result != kSuccess) {
    driver.unavailable = result == 100 ? "there is no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it"
                                       : "the NVIDIA driver does not start (error " + std::to_string(result) + ")";
    return driver;
  }
  auto find = [&](const char* name, int32_t version) {
    void* function = nullptr;
    int32_t found = 0;
    return get_address(name, &function, version, 0, &found) == kSuccess ? function : nullptr;
  };
#define SPILLWAY_CUDA_FIND(name, version, ...) \
  driver.name.pointer = reinterpret_cast<Result (*)(__VA_ARGS__)>(find(#name, version));
#define SPILLWAY_CUDA_DEMAND(name, version, ...)                                    \
  SPILLWAY_CUDA_FIND(name, version, __VA_ARGS__)                                    \
  if (!driver.name) {                                                               \
    driver.unavailable = "the NVIDIA driver has no " #name "; install a newer one"; \
    return driver;                                                                  \
  }
  SPILLWAY_CUDA_REQUIRED(SPILLWAY_CUDA_DEMAND)
  SPILLWAY_CUDA_OPTIONAL(SPILLWAY_CUDA_FIND)
#undef SPILLWAY_CUDA_DEMAND
#undef SPILLWAY_CUDA_FIND
  driver.virtual_memory = driver.cuMemAddressReserve && driver.cuMemAddressFree && driver.cuMemCreate &&
                          driver.cuMemRelease && driver.cuMemMap && driver.cuMemUnmap && driver.cuMemSetAccess &&
                          driver.cuMemGetAllocationGranularity;
  driver.cuDriverGetVersion(&driver.version);
  int32_t count = 0;
  if (driver.cuDeviceGetCount(&count) != kSuccess || count == 0) {
    driver.unavailable = "there is no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it";
  }
  return driver;
}

}  // namespace

const Driver& driver() {
  static const Driver opened = open_driver();
  return opened;
}

bool is_sticky(Result result) {
  // ECC, illegal address, launch timeout, assert, hardware and stack errors, illegal instruction, misaligned address,
  // invalid address space, invalid program counter, launch failed, unknown.
  static constexpr std::array<Result, 12> kSticky = {214, 700, 702, 710, 713, 714, 715, 716, 717, 718, 719, 999};
  return std::find(kSticky.begin(), kSticky.end(), result) != kSticky.end();
}

spillway_status status_of(Result result) {
  if (result == kSuccess) return SPILLWAY_STATUS_OK;
  if (result == kOutOfMemory) return SPILLWAY_STATUS_OUT_OF_MEMORY;
  if (result == kInvalidValue || result == kOutOfResources) return SPILLWAY_STATUS_INVALID_ARGUMENT;
  if (result == 200 || result == 218) return SPILLWAY_STATUS_INVALID_ARGUMENT;  // no image, or PTX that is none
  // No image for this GPU, PTX too new, no kernel of that name.
  if (result == 209 || result == 222 || result == 500) return SPILLWAY_STATUS_NO_KERNELS;
  if (result == 801) return SPILLWAY_STATUS_NOT_SUPPORTED;
  if (result >= 900 && result <= 908) return SPILLWAY_STATUS_CAPTURE;
  return is_sticky(result) ? SPILLWAY_STATUS_DEVICE_LOST : SPILLWAY_STATUS_SYSTEM;
}

void check(Result result, const char* call) {
  if (result == kSuccess) return;
  const char* name = nullptr;
  const char* text = nullptr;
  driver().cuGetErrorName(result, &name);
  driver().cuGetErrorString(result, &text);
  spillway_error error = empty_error();
  error.status = status_of(result);
  error.native_code = result;
  std::snprintf(error.call, sizeof error.call, "%s", call);
  const char* advice = "";
  if (error.status == SPILLWAY_STATUS_DEVICE_LOST) {
    advice = ". The GPU is lost to this process: save what host memory holds, and start the process again";
  }
  if (result == kOutOfResources) {
    advice = ". The block is too large for this kernel, or its arguments are longer than its parameters";
  }
  std::snprintf(error.message, sizeof error.message, "%s: %s (%s)%s", call, text ? text : "failed", name ? name : "?",
                advice);
  throw StatusError(error);
}

}  // namespace spillway::device::cuda
