#include "stream.hpp"

#include "../failure.hpp"
#include "../range_check.hpp"
#include "graph.hpp"
#include "host_device.hpp"
#include "timestamp.hpp"

namespace spillway::device::host {

HostStream::HostStream(HostDevice& device, uint32_t priority)
    : Stream(SPILLWAY_KIND_STREAM, &device), priority_(priority), queue_(device.create_queue(priority)) {
  device.register_queue(queue_);
  if (OrderChecker* checker = device.checker()) {
    static constexpr const char* kPriorities[] = {"low", "normal", "high"};
    label_ = "stream " + std::to_string(checker->next_number(true)) + " (" + kPriorities[priority] + ")";
  }
}

HostStream::~HostStream() {
  if (joined_.capture) joined_.capture->forget(*this);
  queue_->close();
}

HostStream::Joined HostStream::joined() const {
  std::lock_guard lock(mutex_);
  return joined_;
}

bool HostStream::capturing() const { return joined().capture != nullptr; }

void HostStream::leave_capture() {
  std::lock_guard lock(mutex_);
  joined_ = {};
}

void HostStream::refuse_in_capture(const char* call, const char* what) const {
  if (capturing()) {
    fail(SPILLWAY_STATUS_CAPTURE, call, "%s is not possible while the stream is being captured; end the capture first",
         what);
  }
}

HostDevice& HostStream::host() const { return *static_cast<HostDevice*>(const_cast<HostStream*>(this)->device()); }

void HostStream::enqueue(const char* call, const std::shared_ptr<Operation>& operation) {
  host().check_open(call);
  if (OrderChecker* checker = host().checker()) {
    operation->site = checker->mark_site();
    operation->stream = label_;
  }
  if (Joined in = joined(); in.capture) {
    in.capture->add(in.lane, operation);
  } else {
    queue_->push(operation);
  }
}

void HostStream::poison(uint8_t* data, uint64_t bytes, StreamUses& uses) {
  uses.prepare(queue_);
  uses.note(queue_->stream_id, queue_->push(std::make_shared<PoisonOperation>(data, bytes)));
}

HostWait HostStream::begin_host_wait() {
  OrderChecker* checker = host().checker();
  if (!checker) return {};
  return [keep = Ref<Device>(device()), checker, reached = checker->reached(*queue_->lane())] {
    checker->host_joined(reached);
  };
}

void HostStream::synchronize() {
  refuse_in_capture("stream_synchronize", "waiting for a stream");
  host().failures().pass(FailurePoint::kStream, "stream_synchronize");
  HostWait joined = begin_host_wait();
  drain(*queue_);
  if (joined) joined();
}

void HostStream::notify(std::function<void(spillway_status)> done) {
  refuse_in_capture("stream_notify", "waiting for a stream");
  host().failures().pass(FailurePoint::kStream, "stream_notify");
  queue_->push(std::make_shared<CallOperation>([done = std::move(done)] { done(SPILLWAY_STATUS_OK); }));
  queue_->demand();
}

void HostStream::record(Event& event, bool external) {
  host().failures().pass(FailurePoint::kEvent, "event_record");
  auto& target = static_cast<HostEvent&>(event);
  if (Joined in = joined(); in.capture) {
    if (external) {
      in.capture->add_external(in.lane, target, ExternalEvents::Use::kRecord);
    } else {
      target.set({nullptr, in.capture->record(in.lane)});
    }
    return;
  }
  host().check_open("event_record");
  auto signal = std::make_shared<Signal>();
  queue_->push(std::make_shared<SignalOperation>(signal));
  target.set({signal, nullptr});
}

void HostStream::record(Timestamp& timestamp) {
  host().failures().pass(FailurePoint::kEvent, "timestamp_record");
  enqueue("timestamp_record", std::make_shared<TimestampOperation>(static_cast<HostTimestamp&>(timestamp)));
}

void HostStream::wait(Event& event, bool external) {
  host().failures().pass(FailurePoint::kEvent, "event_wait");
  auto& source = static_cast<HostEvent&>(event);
  HostEvent::Record record = source.last();
  Joined in = joined();
  if (external && in.capture) {
    in.capture->add_external(in.lane, source, ExternalEvents::Use::kWait);
    return;
  }
  if (record.captured) {
    std::shared_ptr<Capture> capture = record.captured->capture.lock();
    if (!capture || external || (in.capture && in.capture != capture)) {
      fail(SPILLWAY_STATUS_CAPTURE, "event_wait",
           "the event was recorded in a capture that has ended, or in another one; record it again");
    }
    if (in.capture) {
      capture->wait(in.lane, *record.captured);
    } else {
      uint32_t lane = capture->join(*this, *record.captured);
      std::lock_guard lock(mutex_);
      joined_ = {capture, lane};
    }
    return;
  } else if (in.capture) {
    fail(SPILLWAY_STATUS_CAPTURE, "event_wait",
         "the event was not recorded in this capture; to wait for it at every replay, ask for an external wait");
  }
  if (!record.signal) return;
  host().check_open("event_wait");
  queue_->push(std::make_shared<WaitOperation>(record.signal));
}

void HostStream::copy(const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    const auto& to = static_cast<HostBuffer&>(*copy.to);
    const auto& from = static_cast<HostBuffer&>(*copy.from);
    check_copy(copy, to.bytes(), reinterpret_cast<uint64_t>(to.data()), from.bytes(),
               reinterpret_cast<uint64_t>(from.data()));
    if (to.storage() == SPILLWAY_STORAGE_PAGEABLE || from.storage() == SPILLWAY_STORAGE_PAGEABLE) {
      // A driver copies unpinned memory through a buffer of its own, on the caller's time: nothing it could record.
      refuse_in_capture("copy", "copying unpinned host memory");
    }
  }
  if (std::all_of(copies.begin(), copies.end(), [](const Copy& copy) { return copy.bytes == 0; })) return;
  host().failures().pass(FailurePoint::kCopy, "copy");
  for (const Copy& copy : copies) {
    if (copy.bytes == 0) continue;
    enqueue("copy",
            std::make_shared<CopyOperation>(static_cast<HostBuffer&>(*copy.to), copy.to_offset,
                                            static_cast<HostBuffer&>(*copy.from), copy.from_offset, copy.bytes));
  }
}

void HostStream::fill(Buffer& to_buffer, uint64_t offset, uint64_t bytes, uint8_t value) {
  auto& to = static_cast<HostBuffer&>(to_buffer);
  check_range("fill", "target", to.bytes(), offset, bytes);
  if (bytes == 0) return;
  host().failures().pass(FailurePoint::kCopy, "fill");
  enqueue("fill", std::make_shared<FillOperation>(to, offset, bytes, value));
}

void HostStream::launch(const spillway_launch& launch) {
  if (launch.kernel == nullptr || launch.kernel->host_twin == nullptr) {
    fail(SPILLWAY_STATUS_NO_KERNELS, "launch", "kernel '%s' has no host twin: it cannot run on the host device",
         launch.kernel && launch.kernel->name ? launch.kernel->name : "?");
  }
  std::vector<Held<HostBuffer>> buffers;
  for (uint32_t i = 0; i < launch.access_count; ++i) {
    const spillway_access& access = launch.accesses[i];
    auto* buffer = static_cast<HostBuffer*>(reinterpret_cast<Object*>(access.buffer));
    check_access(launch.kernel->name, access, buffer->bytes(), buffer->info().device_address != 0);
    buffers.emplace_back(buffer);
  }
  host().failures().pass(FailurePoint::kLaunch, "launch");
  enqueue("launch", std::make_shared<LaunchOperation>(launch, std::move(buffers)));
}

void HostStream::begin_capture() {
  refuse_in_capture("begin_capture", "beginning another capture");
  host().check_open("begin_capture");
  host().failures().pass(FailurePoint::kCapture, "begin_capture");
  auto capture = std::make_shared<Capture>(host(), *this);
  std::lock_guard lock(mutex_);
  joined_ = {std::move(capture), 0};
}

Graph* HostStream::end_capture() {
  Joined in = joined();
  if (!in.capture || !in.capture->began(*this)) {
    fail(SPILLWAY_STATUS_CAPTURE, "end_capture", "this stream did not begin a capture");
  }
  Capture::Recording recording = in.capture->finish();
  // What was recorded is dropped when this fails, whatever the reason.
  host().failures().pass(FailurePoint::kCapture, "end_capture");
  return new HostGraph(host(), std::move(recording));
}

void HostStream::replay(Graph& graph) {
  refuse_in_capture("graph_launch", "launching a graph");
  host().check_open("graph_launch");
  host().failures().pass(FailurePoint::kLaunch, "graph_launch");
  OrderChecker* checker = host().checker();
  static_cast<HostGraph&>(graph).replay(*queue_, checker ? GraphLaunch{checker->mark_site(), label_} : GraphLaunch{});
  host().counters().graph_launches.fetch_add(1, std::memory_order_relaxed);
  graph.count_replay();
}

}  // namespace spillway::device::host
