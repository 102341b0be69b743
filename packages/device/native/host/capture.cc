#include "capture.hpp"

#include <algorithm>

#include "../failure.hpp"
#include "host_device.hpp"
#include "stream.hpp"

namespace spillway::device::host {

Capture::Capture(HostDevice& device, HostStream& origin) : device_(device) {
  lanes_.push_back({&origin, -1, {}, origin.replays()});
}

void Capture::add(uint32_t lane_index, std::shared_ptr<const Operation> operation) {
  std::vector<Ref<HostBuffer>> buffers;
  for (const Held<HostBuffer>& buffer : operation->buffers()) buffers.emplace_back(buffer.get());
  std::lock_guard lock(mutex_);
  Lane& lane = lanes_[lane_index];
  nodes_.push_back({std::move(operation), {}, {}, lane_index, std::move(lane.pending), std::move(buffers)});
  lane.pending.clear();
  lane.tail = static_cast<int64_t>(nodes_.size()) - 1;
}

void Capture::add_external(uint32_t lane_index, HostEvent& event, ExternalEvents::Use use) {
  std::lock_guard lock(mutex_);
  external_events_.add(event, use);
  Lane& lane = lanes_[lane_index];
  nodes_.push_back({nullptr, Ref<HostEvent>(&event), use, lane_index, std::move(lane.pending), {}});
  lane.pending.clear();
  lane.tail = static_cast<int64_t>(nodes_.size()) - 1;
}

std::vector<uint32_t> Capture::frontier(const Lane& lane) const {
  std::vector<uint32_t> nodes = lane.pending;
  if (lane.tail >= 0) nodes.push_back(static_cast<uint32_t>(lane.tail));
  return nodes;
}

std::shared_ptr<const HostEvent::CapturedRecord> Capture::record(uint32_t lane) {
  std::lock_guard lock(mutex_);
  return std::make_shared<HostEvent::CapturedRecord>(
      HostEvent::CapturedRecord{weak_from_this(), frontier(lanes_[lane])});
}

void Capture::wait(uint32_t lane_index, const HostEvent::CapturedRecord& record) {
  std::lock_guard lock(mutex_);
  Lane& lane = lanes_[lane_index];
  for (uint32_t node : record.nodes) {
    // Its own lane's order is given.
    if (nodes_[node].lane == lane_index) continue;
    if (std::find(lane.pending.begin(), lane.pending.end(), node) == lane.pending.end()) lane.pending.push_back(node);
  }
}

uint32_t Capture::join(HostStream& stream, const HostEvent::CapturedRecord& record) {
  std::lock_guard lock(mutex_);
  lanes_.push_back({&stream, -1, record.nodes, stream.replays()});
  return static_cast<uint32_t>(lanes_.size()) - 1;
}

void Capture::forget(const HostStream& stream) {
  std::vector<HostStream*> left_behind;
  {
    std::lock_guard lock(mutex_);
    const bool origin = lanes_.front().stream == &stream;
    for (Lane& lane : lanes_) {
      if (lane.stream == &stream) lane.stream = nullptr;
      // Nobody could end the capture any more: the streams that joined it would record for ever.
      if (origin && lane.stream) left_behind.push_back(lane.stream);
    }
  }
  for (HostStream* other : left_behind) other->leave_capture();
}

void Capture::check_joined() const {
  std::vector<bool> reached(nodes_.size(), false);
  std::vector<int64_t> before(nodes_.size(), -1);  // the node before it in its lane
  std::vector<int64_t> last(lanes_.size(), -1);
  for (uint32_t i = 0; i < nodes_.size(); ++i) {
    before[i] = last[nodes_[i].lane];
    last[nodes_[i].lane] = i;
  }
  std::vector<uint32_t> open = frontier(lanes_.front());
  while (!open.empty()) {
    uint32_t node = open.back();
    open.pop_back();
    if (reached[node]) continue;
    reached[node] = true;
    if (before[node] >= 0) open.push_back(static_cast<uint32_t>(before[node]));
    open.insert(open.end(), nodes_[node].dependencies.begin(), nodes_[node].dependencies.end());
  }
  for (size_t lane = 1; lane < lanes_.size(); ++lane) {
    int64_t tail = lanes_[lane].tail;
    if (tail >= 0 && !reached[static_cast<size_t>(tail)]) {
      report_unjoined(static_cast<size_t>(tail));
      fail(SPILLWAY_STATUS_CAPTURE, "end_capture",
           "the capture was dropped: a stream that joined it has work nobody waits for. Record an event on that stream "
           "and let the capturing stream wait for it before the capture ends");
    }
  }
}

void Capture::report_unjoined(size_t node) const {
  OrderChecker* checker = device_.checker();
  const Operation* operation = nodes_[node].operation.get();
  if (!checker || !operation) return;
  const std::vector<Access> accesses = operation->accesses();
  Violation violation{ViolationKind::kUnjoinedFork, "", 0, 0, nullptr, nullptr};
  if (!accesses.empty()) {
    violation.buffer = accesses[0].buffer->label();
    violation.offset = accesses[0].offset;
    violation.bytes = accesses[0].bytes;
  }
  violation.later =
      std::make_shared<OperationRecord>(OperationRecord{operation->name(), operation->stream, operation->site, 0});
  checker->report(std::move(violation));
}

Capture::Recording Capture::finish() {
  std::vector<HostStream*> streams;
  {
    std::lock_guard lock(mutex_);
    for (const Lane& lane : lanes_) streams.push_back(lane.stream);
  }
  for (HostStream* stream : streams) {
    if (stream) stream->leave_capture();
  }
  std::lock_guard lock(mutex_);
  check_joined();
  Recording recording{std::move(nodes_), static_cast<uint32_t>(lanes_.size()), {}};
  for (Lane& lane : lanes_) {
    if (lane.tail >= 0) recording.replays.push_back(std::move(lane.replays));
  }
  return recording;
}

}  // namespace spillway::device::host
