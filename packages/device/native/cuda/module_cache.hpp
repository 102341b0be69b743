// Kernels as this GPU runs them, loaded once each.
#pragma once

#include <functional>
#include <map>
#include <mutex>

#include "driver.hpp"

namespace spillway::device::cuda {

class CudaDevice;

// Dynamic shared memory that every kernel may use; more must be asked for, by the attribute.
inline constexpr uint32_t kSharedWithoutAsking = 48 << 10;
inline constexpr int32_t kMaximumSharedBytes = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

/// On a thread of its own: loading is not allowed on a thread that is capturing. Throws what `load` throws.
void load_apart(const std::function<void()>& load);

class ModuleCache {
 public:
  explicit ModuleCache(CudaDevice& device) : device_(device) {}
  /// Throws NO_KERNELS when the kernel has no image this GPU can run. Any thread, in a capture too.
  FunctionHandle function(const spillway_kernel& kernel, uint32_t shared_bytes);
  void clear() noexcept;

 private:
  struct Entry {
    FunctionHandle function;
    uint32_t shared_bytes;  // that it may use; more must be asked for
  };
  Entry load(const spillway_kernel& kernel);

  CudaDevice& device_;
  std::mutex mutex_;
  std::map<const void*, ModuleHandle> modules_;  // by image
  std::map<const spillway_kernel*, Entry> functions_;
};

}  // namespace spillway::device::cuda
