#include "status.hpp"

#include <dlfcn.h>

namespace spillway::device::cuda {

Status status() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* why = dlerror();
    return {false, std::string("no NVIDIA driver: ") + (why ? why : "libcuda.so.1 not found")};
  }
  return {false, "an NVIDIA driver is installed, but this version of Spillway has the host device only"};
}

}  // namespace spillway::device::cuda
