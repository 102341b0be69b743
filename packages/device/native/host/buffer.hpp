// Memory of the host device: plain device memory, host memory of the three kinds, and part of an address range.
#pragma once

#include <memory>
#include <string>

#include "../device.hpp"
#include "memory_file.hpp"

namespace spillway::device::host {

class HostDevice;
class HostAddressRange;

/// Fresh device memory holds this in every byte: NaN in f32, f16 and bf16, so that reading before writing shows.
inline constexpr uint8_t kFreshPoison = 0xff;

class HostBuffer : public Buffer {
 public:
  spillway_buffer_info info() const override;

  uint8_t* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  uint32_t storage() const { return storage_; }
  bool on_device() const { return storage_ == SPILLWAY_STORAGE_DEVICE; }
  /// Tag of device memory; empty for host memory.
  const std::string& tag() const { return tag_; }

  /// Called when work that touches the buffer is enqueued, and when it is done. Throws when there is no memory behind
  /// the address.
  virtual void begin_use() {}
  virtual void end_use() noexcept {}

 protected:
  HostBuffer(uint32_t kind, HostDevice& device, uint32_t storage, uint64_t bytes, std::string tag);
  uint8_t* data_ = nullptr;

 private:
  const std::string tag_;
  const uint32_t storage_;
  const uint64_t bytes_;
};

/// Device memory of its own extent. Freed memory is unmapped: a stale pointer faults instead of reading old bytes.
class DeviceMemory final : public HostBuffer {
 public:
  DeviceMemory(HostDevice& device, uint64_t bytes, const std::string& tag);

 private:
  Charge charge_;
  MemoryFile::Extent extent_;
  Mapping mapping_;
};

/// Host memory. The host device pins by marking; it never calls mlock, whose usual limit is 8 MiB.
class HostMemory final : public HostBuffer {
 public:
  HostMemory(HostDevice& device, uint32_t storage, uint64_t bytes);
  ~HostMemory() override;

 private:
  Mapping mapping_;
};

}  // namespace spillway::device::host
