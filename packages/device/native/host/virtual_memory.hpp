// Addresses and memory apart: a range of reserved addresses, physical memory of the memory file, and what is mapped.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "../address_map.hpp"
#include "buffer.hpp"

namespace spillway::device::host {

class HostPhysicalMemory final : public PhysicalMemory {
 public:
  HostPhysicalMemory(HostDevice& device, uint64_t bytes, const std::string& tag);
  uint64_t bytes() const override { return extent_.bytes(); }
  const MemoryFile::Extent& extent() const { return extent_; }
  /// Null when order is not checked.
  AccessHistory* history() { return history_.get(); }

 private:
  std::unique_ptr<AccessHistory> history_;
  Charge charge_;
  MemoryFile::Extent extent_;
};

class HostAddressRange final : public AddressRange {
 public:
  HostAddressRange(HostDevice& device, uint64_t bytes);
  ~HostAddressRange() override;

  uint8_t* data() const { return mapping_.data(); }
  uint8_t* kernel_data() const { return guarded_ ? guarded_->data() : mapping_.data(); }
  uint64_t bytes() const override { return mapping_.bytes(); }
  AddressMap& pieces() { return pieces_; }
  /// Of its addresses, whatever is mapped there: work that uses them reads them, unmapping writes them. Null when order
  /// is not checked.
  AccessHistory* addresses() { return addresses_.get(); }
  void map(uint64_t offset, PhysicalMemory& memory) override;
  void unmap(uint64_t offset, uint64_t bytes) override;
  Buffer* create_buffer(uint64_t offset, uint64_t bytes) override;

 private:
  HostDevice& host();

  AddressMap pieces_;
  Mapping mapping_;  // after pieces_: unmapped before the memory goes back
  std::unique_ptr<AccessHistory> addresses_;
  std::string label_;
  std::optional<Mapping> guarded_;  // what kernels under check see
};

}  // namespace spillway::device::host
