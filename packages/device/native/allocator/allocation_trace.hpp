// The last events of an allocator, for drawings and reports. Costs one comparison an event while it is off.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "marker.hpp"

namespace spillway::device {

enum class TraceKind : uint8_t { kAllocate, kFree, kCreateSegment, kDestroySegment, kOutOfMemory };

struct TraceEvent {
  TraceKind kind;
  uint32_t tag;   // of blocks; see Names
  uint32_t pool;  // see Names
  StreamId stream;
  uint64_t address;  // out of memory: 0
  uint64_t bytes;    // of the block, or of what was created or destroyed; out of memory: of the block there is none for
  uint64_t requested_bytes;  // of blocks
  uint64_t number;           // of the event, from 0, since tracing began
  uint64_t time_ns;          // of std::chrono::steady_clock
};

/// Guarded by whoever owns it.
class AllocationTrace {
 public:
  /// Keeps the last `capacity` events from now on; 0: none. Throws std::bad_alloc, and goes on as before.
  void start(size_t capacity) {
    std::vector<TraceEvent> ring;
    ring.reserve(capacity);
    ring_ = std::move(ring);
    capacity_ = capacity;
    count_ = 0;
  }
  void add(TraceEvent event) noexcept {
    if (capacity_ == 0) return;
    event.number = count_;
    event.time_ns =
        static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
    if (ring_.size() < capacity_) {
      ring_.push_back(event);  // within what was reserved
    } else {
      ring_[count_ % capacity_] = event;
    }
    ++count_;
  }
  /// The oldest first. The first one's number says how many are lost.
  std::vector<TraceEvent> events() const {
    std::vector<TraceEvent> events;
    events.reserve(ring_.size());
    const size_t begin = ring_.size() < capacity_ || capacity_ == 0 ? 0 : count_ % capacity_;
    events.insert(events.end(), ring_.begin() + static_cast<ptrdiff_t>(begin), ring_.end());
    events.insert(events.end(), ring_.begin(), ring_.begin() + static_cast<ptrdiff_t>(begin));
    return events;
  }

 private:
  std::vector<TraceEvent> ring_;
  size_t capacity_ = 0;
  uint64_t count_ = 0;
};

}  // namespace spillway::device
