#include "thread_queue.hpp"

#include <system_error>
#include <thread>

#include "../failure.hpp"
#include "host_device.hpp"

namespace spillway::device::host {

std::shared_ptr<ThreadQueue> ThreadQueue::start(HostDevice& device, uint32_t priority) {
  std::shared_ptr<ThreadQueue> queue(new ThreadQueue(device, priority));
  try {
    std::thread([queue, keep = Ref<HostDevice>(&device)]() mutable {
      queue->work(*keep);
      // The queue first: its last operations may hold the last buffers of the device.
      queue.reset();
    }).detach();
  } catch (const std::system_error& failure) {
    fail_system("stream_create", failure.code().value(), "the system gives no more threads");
  }
  return queue;
}

uint64_t ThreadQueue::insert(const std::shared_ptr<const Operation>& operation) {
  uint64_t position = 0;
  {
    std::lock_guard lock(mutex_);
    operations_.push_back(operation);
    position = ++pushed_;
  }
  wake_.notify_one();
  return position;
}

bool ThreadQueue::push_unless_ended(std::shared_ptr<const Operation> operation) {
  {
    std::lock_guard lock(mutex_);
    if (ended_) return false;
    operations_.push_back(std::move(operation));
    ++pushed_;
  }
  wake_.notify_one();
  return true;
}

void ThreadQueue::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  wake_.notify_one();
}

void ThreadQueue::work(HostDevice& device) {
  std::unique_lock lock(mutex_);
  for (uint64_t done = 0;; reach(++done)) {
    wake_.wait(lock, [&] { return closed_ || !operations_.empty(); });
    if (operations_.empty()) {
      ended_ = true;
      return;
    }
    std::shared_ptr<const Operation> operation = std::move(operations_.front());
    operations_.pop_front();
    lock.unlock();
    operation->run(device, priority_);
    finish(*operation);
    // Outside the lock: this may free memory, or end the last handle that keeps this very queue open.
    operation.reset();
    lock.lock();
  }
}

}  // namespace spillway::device::host
