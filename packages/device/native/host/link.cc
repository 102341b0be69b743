#include "link.hpp"

#include <algorithm>
#include <cstring>
#include <thread>

namespace spillway::device::host {

// Small enough that a high-priority copy does not wait long, large enough that the sleeps are exact.
static constexpr uint64_t kThrottledPieceBytes = 256 << 10;

void Link::transfer(void* to, const void* from, uint64_t bytes, uint32_t priority) {
  if (options_.latency_seconds > 0) {
    std::this_thread::sleep_for(std::chrono::duration<double>(options_.latency_seconds));
  }
  if (options_.bytes_per_second <= 0) {
    std::memmove(to, from, bytes);
    return;
  }
  auto* target = static_cast<uint8_t*>(to);
  const auto* source = static_cast<const uint8_t*>(from);
  for (uint64_t done = 0; done < bytes;) {
    uint64_t piece = std::min(bytes - done, kThrottledPieceBytes);
    enter(priority);
    auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                                  static_cast<double>(piece) / options_.bytes_per_second));
    std::memcpy(target + done, source + done, piece);
    std::this_thread::sleep_until(end);
    leave();
    done += piece;
  }
}

void Link::enter(uint32_t priority) {
  std::unique_lock lock(mutex_);
  ++waiting_[priority];
  turn_.wait(lock, [&] {
    if (busy_) return false;
    for (uint32_t higher = priority + 1; higher < 3; ++higher) {
      if (waiting_[higher] > 0) return false;
    }
    return true;
  });
  --waiting_[priority];
  busy_ = true;
}

void Link::leave() {
  {
    std::lock_guard lock(mutex_);
    busy_ = false;
  }
  turn_.notify_all();
}

}  // namespace spillway::device::host
