// What a stream's work may still be writing when a kernel starts early: all that was enqueued since the last launch
// that began after everything ahead of it was done.
#pragma once

#include <cstdint>
#include <vector>

#include "driver.hpp"

namespace spillway::device::cuda {

/// On the thread that enqueues.
class UnfinishedWrites {
 public:
  void add(Address address, uint64_t bytes) {
    if (ranges_.size() < kMost) {
      ranges_.push_back({address, bytes});
    } else {
      unknown_ = true;
    }
  }
  /// Of work whose accesses nobody told.
  void add_unknown() { unknown_ = true; }
  void clear() {
    ranges_.clear();
    unknown_ = false;
  }

  bool may_touch(Address address, uint64_t bytes) const {
    if (unknown_) return true;
    for (const Range& range : ranges_) {
      if (address < range.address + range.bytes && range.address < address + bytes) return true;
    }
    return false;
  }

 private:
  struct Range {
    Address address;
    uint64_t bytes;
  };
  /// A few layers of kernels. Beyond, one launch waits for all ahead, which costs microseconds, and it begins anew.
  static constexpr size_t kMost = 64;

  std::vector<Range> ranges_;
  bool unknown_ = true;  // of a stream that was borrowed
};

}  // namespace spillway::device::cuda
