// A thread that does operations in the order they came. What a stream is made of; a graph has one for each further
// lane, and the binding one for slow calls that have no place on the event loop.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>

#include "operation.hpp"

namespace spillway::device::host {

class WorkQueue : public std::enable_shared_from_this<WorkQueue> {
 public:
  /// The thread keeps the device, finishes what was pushed, and ends after close().
  static std::shared_ptr<WorkQueue> start(HostDevice& device, uint32_t priority);

  /// Takes the buffers of the operation into use; throws, and pushes nothing, when one has no memory behind it.
  void push(std::shared_ptr<const Operation> operation);
  /// For who holds the queue without keeping its stream: false, and nothing pushed, when the thread has ended. For
  /// operations without buffers.
  bool push_unless_ended(std::shared_ptr<const Operation> operation);
  /// No more work will come. The thread ends by itself: it may be the caller, which could not join itself.
  void close();

 private:
  explicit WorkQueue(uint32_t priority) : priority_(priority) {}
  void work(HostDevice& device);

  const uint32_t priority_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<const Operation>> operations_;
  bool closed_ = false;
  bool ended_ = false;
};

/// Blocks until the queue has done everything pushed before. Never on a JavaScript thread.
void drain(WorkQueue& queue);

}  // namespace spillway::device::host
