// Memory of a GPU, and host memory that it can reach.
#pragma once

#include <optional>
#include <string>

#include "../block_lease.hpp"
#include "driver.hpp"

namespace spillway::device::cuda {

class CudaDevice;

class CudaBuffer : public Buffer {
 public:
  spillway_buffer_info info() const override;
  /// A GPU cannot be asked what it is doing; the caller orders host accesses, as everywhere.
  std::unique_lock<std::mutex> begin_host_access(uint64_t, uint64_t, uint32_t) override { return {}; }

  uint64_t bytes() const { return bytes_; }
  uint32_t storage() const { return storage_; }
  bool on_device() const { return storage_ == SPILLWAY_STORAGE_DEVICE; }
  const std::string& tag() const { return tag_; }
  /// For copies; under unified addressing every memory has one.
  Address address() const { return address_; }

  /// While enqueued work uses it. Throws when there is no memory behind the address.
  virtual void begin_use() {}
  virtual void end_use() noexcept {}
  /// Of memory that others may have, in the order of streams, once nobody refers to it; null: of none such.
  virtual StreamUses* stream_uses() { return nullptr; }

 protected:
  CudaBuffer(uint32_t kind, CudaDevice& device, uint32_t storage, uint64_t bytes, std::string tag);
  Address address_ = 0;

 private:
  const std::string tag_;
  const uint32_t storage_;
  const uint64_t bytes_;
};

/// A block of a cached segment.
class DeviceMemory final : public CudaBuffer {
 public:
  DeviceMemory(CudaDevice& device, const DeviceAllocation& wanted);
  StreamUses* stream_uses() override { return &lease_.uses(); }

 private:
  void retire() noexcept override { lease_.give_back(); }

  BlockLease lease_;
};

/// Device memory of somebody else's, who keeps it for as long as this is used. Outside of the budget.
class BorrowedMemory final : public CudaBuffer {
 public:
  /// Throws INVALID_ARGUMENT when it is no memory of this device, or not all of it.
  BorrowedMemory(CudaDevice& device, Address address, uint64_t bytes);
};

}  // namespace spillway::device::cuda
