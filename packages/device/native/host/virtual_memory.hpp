// Addresses and memory apart: a range of reserved addresses, physical memory of the memory file, and what is mapped.
#pragma once

#include <map>
#include <mutex>

#include "buffer.hpp"

namespace spillway::device::host {

class HostPhysicalMemory final : public PhysicalMemory {
 public:
  HostPhysicalMemory(HostDevice& device, uint64_t bytes, const std::string& tag);
  uint64_t bytes() const override { return extent_.bytes(); }
  const MemoryFile::Extent& extent() const { return extent_; }

 private:
  Charge charge_;
  MemoryFile::Extent extent_;
};

class HostAddressRange final : public AddressRange {
 public:
  HostAddressRange(HostDevice& device, uint64_t bytes);

  uint8_t* data() const { return mapping_.data(); }
  uint64_t bytes() const override { return mapping_.bytes(); }
  void map(uint64_t offset, PhysicalMemory& memory) override;
  void unmap(uint64_t offset, uint64_t bytes) override;
  Buffer* create_buffer(uint64_t offset, uint64_t bytes) override;

  void begin_use(uint64_t offset, uint64_t bytes);
  void end_use() noexcept;

 private:
  bool mapped_whole(uint64_t offset, uint64_t bytes) const;

  mutable std::mutex mutex_;
  std::map<uint64_t, Ref<HostPhysicalMemory>> pieces_;
  uint64_t uses_ = 0;  // enqueued operations that touch the range
  Mapping mapping_;    // after pieces_: unmapped before the memory goes back
};

}  // namespace spillway::device::host
