// A queue that is a thread: work begins as soon as it can.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>

#include "work_queue.hpp"

namespace spillway::device::host {

class ThreadQueue final : public WorkQueue {
 public:
  /// The thread keeps the device, finishes what was pushed, and ends after close().
  static std::shared_ptr<ThreadQueue> start(HostDevice& device, uint32_t priority);

  bool push_unless_ended(std::shared_ptr<const Operation> operation) override;
  /// The thread ends by itself: it may be the caller, which could not join itself.
  void close() override;

 private:
  ThreadQueue(HostDevice& device, uint32_t priority) : WorkQueue(device), priority_(priority) {}
  uint64_t insert(const std::shared_ptr<const Operation>& operation) override;
  void work(HostDevice& device);

  const uint32_t priority_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<const Operation>> operations_;
  uint64_t pushed_ = 0;
  bool closed_ = false;
  bool ended_ = false;
};

}  // namespace spillway::device::host
