// Host memory that a GPU copies from and reads in place.
#pragma once

#include <optional>

#include "../host_memory/host_region.hpp"
#include "cuda_buffer.hpp"

namespace spillway::device::cuda {

/// Memory that the driver was told to pin.
class Registration {
 public:
  /// Any thread. Throws HostMemoryRefusal when the driver, or the system below it, refuses.
  Registration(CudaDevice& device, HostRegion& region, uint32_t flags);
  ~Registration();
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

 private:
  CudaDevice& device_;
  void* data_;
};

/// Host memory. What is pinned and large is a region of our own, touched by several threads while one registers it: the
/// driver's own allocation takes one thread and small pages, nine times as long. One registration, whatever the size: a
/// copy must lie within one.
class HostMemory final : public CudaBuffer {
 public:
  HostMemory(CudaDevice& device, uint32_t storage, uint64_t bytes, HostAllocation& allocation);
  ~HostMemory() override;

 private:
  std::optional<HostRegion> region_;  // none: the driver's own allocation
  std::optional<Registration> registration_;
};

}  // namespace spillway::device::cuda
