#include "work_queue.hpp"

#include <system_error>
#include <thread>

#include "../failure.hpp"
#include "host_device.hpp"

namespace spillway::device::host {

std::shared_ptr<WorkQueue> WorkQueue::start(HostDevice& device, uint32_t priority) {
  std::shared_ptr<WorkQueue> queue(new WorkQueue(priority));
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

void WorkQueue::push(std::shared_ptr<const Operation> operation) {
  const auto& buffers = operation->buffers();
  size_t used = 0;
  try {
    for (; used < buffers.size(); ++used) buffers[used]->begin_use();
    std::lock_guard lock(mutex_);
    operations_.push_back(std::move(operation));
  } catch (...) {
    while (used > 0) buffers[--used]->end_use();
    throw;
  }
  wake_.notify_one();
}

bool WorkQueue::push_unless_ended(std::shared_ptr<const Operation> operation) {
  {
    std::lock_guard lock(mutex_);
    if (ended_) return false;
    operations_.push_back(std::move(operation));
  }
  wake_.notify_one();
  return true;
}

void WorkQueue::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  wake_.notify_one();
}

void WorkQueue::work(HostDevice& device) {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return closed_ || !operations_.empty(); });
    if (operations_.empty()) {
      ended_ = true;
      return;
    }
    std::shared_ptr<const Operation> operation = std::move(operations_.front());
    operations_.pop_front();
    lock.unlock();
    operation->run(device, priority_);
    for (const Ref<HostBuffer>& buffer : operation->buffers()) buffer->end_use();
    // Outside the lock: this may free memory, or end the last handle that keeps this very queue open.
    operation.reset();
    lock.lock();
  }
}

void drain(WorkQueue& queue) {
  auto done = std::make_shared<Signal>();
  queue.push(std::make_shared<SignalOperation>(done));
  done->wait();
}

}  // namespace spillway::device::host
