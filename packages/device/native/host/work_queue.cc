#include "work_queue.hpp"

#include "host_device.hpp"

namespace spillway::device::host {

WorkQueue::WorkQueue(HostDevice& device)
    : StreamProgress(device.next_stream_id()),
      checker_(device.checker()),
      lane_(checker_ ? checker_->create_lane() : nullptr) {}

void WorkQueue::wait_until_passed(uint64_t) {
  auto done = std::make_shared<Signal>();
  if (!push_unless_ended(std::make_shared<SignalOperation>(done))) return;
  demand();
  done->wait();
}

void BufferUses::begin(HostBuffer& buffer) {
  try {
    buffer.begin_use();
  } catch (...) {
    for (HostBuffer* begun : buffers_) begun->end_use();
    throw;
  }
  buffers_.push_back(&buffer);
}

BufferUses::~BufferUses() {
  for (HostBuffer* buffer : buffers_) buffer->end_use();
}

uint64_t WorkQueue::push(const std::shared_ptr<const Operation>& operation, const GraphLaunch& launch) {
  BufferUses uses(operation->buffers());
  for (const Held<HostBuffer>& buffer : operation->buffers()) {
    if (StreamUses* streams = buffer->stream_uses()) streams->prepare(shared_from_this());
  }
  uint64_t position = 0;
  if (checker_) {
    checker_->enqueued(*lane_, *operation, launch, [&] { position = insert(operation); });
  } else {
    position = insert(operation);
  }
  uses.keep();
  operation->enqueued();
  for (const Held<HostBuffer>& buffer : operation->buffers()) {
    if (StreamUses* streams = buffer->stream_uses()) streams->note(stream_id, position);
  }
  return position;
}

void finish(const Operation& operation) {
  for (const Held<HostBuffer>& buffer : operation.buffers()) buffer->end_use();
}

void drain(WorkQueue& queue) {
  auto done = std::make_shared<Signal>();
  queue.push(std::make_shared<SignalOperation>(done));
  queue.demand();
  done->wait();
}

}  // namespace spillway::device::host
