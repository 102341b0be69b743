// A live block of the device's allocator, counted in its budget.
#pragma once

#include <string>

#include "allocator/caching_allocator.hpp"
#include "allocator/stream_uses.hpp"
#include "device.hpp"

namespace spillway::device {

class BlockLease {
 public:
  /// Throws what CachingAllocator::allocate throws.
  BlockLease(Device& device, const DeviceAllocation& wanted);
  BlockLease(const BlockLease&) = delete;
  BlockLease& operator=(const BlockLease&) = delete;
  ~BlockLease() { give_back(); }

  uint64_t address() const { return allocation_.address; }
  /// What was asked for, rounded up as all requests are.
  uint64_t bytes() const { return allocation_.wanted_bytes; }
  /// Work of the stream it was allocated for, enqueued before, may still use it.
  bool pending() const { return !allocation_.block->uses.empty(); }
  StreamUses& uses() { return uses_; }

  /// Once it is given back, others may have it, in the order of streams. Again: does nothing.
  void give_back() noexcept;

 private:
  Device& device_;  // whoever has this keeps it
  std::string tag_;
  Allocation allocation_;
  StreamUses uses_;
};

}  // namespace spillway::device
