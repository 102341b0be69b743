// Anonymous memory of a whole number of pages, no more: what large host buffers are made of.
#pragma once

#include <cstdint>
#include <vector>

#include "host_allocation.hpp"

namespace spillway::device {

class HostRegion {
 public:
  /// Addresses without memory yet, on a huge page's boundary when one fits. advice: of madvise, or -1 for none.
  /// Throws SYSTEM.
  explicit HostRegion(uint64_t bytes, int advice = -1);
  /// With huge pages where they help.
  static HostRegion for_buffer(uint64_t bytes);
  HostRegion(HostRegion&& other) noexcept;
  HostRegion& operator=(HostRegion&&) = delete;
  /// The memory goes back to the system.
  ~HostRegion();

  uint8_t* data() const { return data_; }
  /// Whole pages.
  uint64_t bytes() const { return bytes_; }

  /// Gives every page memory, zeroed, on several threads, each on one of `cpus`; on any when there are none. Tells
  /// `allocation` how far it is, and throws AllocationCancelled soon after that was cancelled.
  void touch(HostAllocation& allocation, const std::vector<int>& cpus);
  /// A part, on the calling thread.
  void touch_here(uint64_t offset, uint64_t bytes);

 private:
  uint8_t* data_;
  uint64_t bytes_;
};

/// How many threads touch memory of this size.
unsigned touch_threads(uint64_t bytes);

}  // namespace spillway::device
