// What moves bytes between host and device. Throttled, it behaves like a bus: a limited rate each way, shared by all
// copies of that direction, those of high-priority streams first.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace spillway::device::host {

struct LinkOptions {
  double bytes_per_second = 0;  // 0: as fast as the processor copies
  double latency_seconds = 0;   // added to every copy
};

class Link {
 public:
  explicit Link(const LinkOptions& options) : options_(options) {}
  /// Blocks the calling stream's thread for as long as the copy takes.
  void transfer(void* to, const void* from, uint64_t bytes, uint32_t priority);

 private:
  using Clock = std::chrono::steady_clock;
  void enter(uint32_t priority);
  void leave();

  const LinkOptions options_;
  std::mutex mutex_;
  std::condition_variable turn_;
  bool busy_ = false;
  uint32_t waiting_[3] = {0, 0, 0};
};

}  // namespace spillway::device::host
