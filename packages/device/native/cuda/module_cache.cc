#include "module_cache.hpp"

#include <exception>
#include <thread>

#include "../failure.hpp"
#include "cuda_device.hpp"

namespace spillway::device::cuda {

void load_apart(const std::function<void()>& load) {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      load();
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

ModuleCache::Entry ModuleCache::load(const spillway_kernel& kernel) {
  if (kernel.image == nullptr || kernel.name == nullptr) {
    fail(SPILLWAY_STATUS_NO_KERNELS, "launch",
         "kernel '%s' has no device image: it was built where no CUDA compiler was. Build it with nvcc on the PATH",
         kernel.name ? kernel.name : "?");
  }
  Entry entry{nullptr, kSharedWithoutAsking};
  load_apart([&] {
    device_.enter("launch");
    ModuleHandle& module = modules_[kernel.image];
    if (module == nullptr) device_.check(driver().cuModuleLoadData(&module, kernel.image), "cuModuleLoadData");
    device_.check(driver().cuModuleGetFunction(&entry.function, module, kernel.name), "cuModuleGetFunction");
  });
  return entry;
}

FunctionHandle ModuleCache::function(const spillway_kernel& kernel, uint32_t shared_bytes) {
  std::lock_guard lock(mutex_);
  auto known = functions_.find(&kernel);
  if (known == functions_.end()) known = functions_.emplace(&kernel, load(kernel)).first;
  Entry& entry = known->second;
  if (shared_bytes > entry.shared_bytes) {
    device_.check(driver().cuFuncSetAttribute(entry.function, kMaximumSharedBytes, static_cast<int32_t>(shared_bytes)),
                  "cuFuncSetAttribute");
    entry.shared_bytes = shared_bytes;
  }
  return entry.function;
}

void ModuleCache::clear() noexcept {
  std::lock_guard lock(mutex_);
  device_.enter_to_free();
  for (const auto& [image, module] : modules_) {
    if (module) driver().cuModuleUnload(module);
  }
  modules_.clear();
  functions_.clear();
}

}  // namespace spillway::device::cuda
