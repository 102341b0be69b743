#include "work_queue.hpp"

#include "host_device.hpp"

namespace spillway::device::host {

WorkQueue::WorkQueue(HostDevice& device)
    : checker_(device.checker()), lane_(checker_ ? checker_->create_lane() : nullptr) {}

BufferUses::BufferUses(const std::vector<Ref<HostBuffer>>& buffers) : buffers_(buffers) {
  try {
    for (; used_ < buffers.size(); ++used_) buffers[used_]->begin_use();
  } catch (...) {
    while (used_ > 0) buffers[--used_]->end_use();
    throw;
  }
}

BufferUses::~BufferUses() {
  while (used_ > 0) buffers_[--used_]->end_use();
}

void WorkQueue::push(const std::shared_ptr<const Operation>& operation, const GraphLaunch& launch) {
  BufferUses uses(operation->buffers());
  if (checker_) {
    checker_->enqueued(*lane_, *operation, launch, [&] { insert(operation); });
  } else {
    insert(operation);
  }
  uses.keep();
}

void finish(const Operation& operation) {
  for (const Ref<HostBuffer>& buffer : operation.buffers()) buffer->end_use();
}

void drain(WorkQueue& queue) {
  auto done = std::make_shared<Signal>();
  queue.push(std::make_shared<SignalOperation>(done));
  queue.demand();
  done->wait();
}

}  // namespace spillway::device::host
