#include "cuda_stream.hpp"

#include <cstring>

#include "../failure.hpp"
#include "../range_check.hpp"
#include "cuda_device.hpp"
#include "cuda_graph.hpp"
#include "cuda_timestamp.hpp"

namespace spillway::device::cuda {

constexpr int32_t kThreadLocal = 1;  // CU_STREAM_CAPTURE_MODE_*: what other threads do does not break a capture
constexpr int32_t kNotCapturing = 0;
constexpr int32_t kInvalidated = 2;
constexpr uint32_t kExternal = 1;  // CU_EVENT_WAIT_EXTERNAL, CU_EVENT_RECORD_EXTERNAL

CudaStream::CudaStream(CudaDevice& device, uint32_t priority)
    : Stream(SPILLWAY_KIND_STREAM, &device),
      priority_(priority),
      queue_(StreamQueue::create(device, device.stream_priority(priority))) {
  device.register_queue(queue_);
}

static StreamHandle check_context(CudaDevice& device, StreamHandle stream) {
  Context context = nullptr;
  device.check(driver().cuStreamGetCtx(stream, &context), "cuStreamGetCtx");
  if (context != device.context()) {
    fail(SPILLWAY_STATUS_WRONG_DEVICE, "stream_wrap",
         "the stream belongs to another GPU, or to a context that is not the primary one");
  }
  return stream;
}

CudaStream::CudaStream(CudaDevice& device, StreamHandle borrowed)
    : Stream(SPILLWAY_KIND_STREAM, &device),
      priority_(SPILLWAY_PRIORITY_NORMAL),
      queue_(StreamQueue::borrow(device, check_context(device, borrowed))) {
  device.register_queue(queue_);
}

CudaStream::~CudaStream() {
  cuda().enter_to_free();
  if (capture_id_ != 0) {
    // Nobody could end the capture any more.
    GraphHandle graph = nullptr;
    driver().cuStreamEndCapture(queue_->handle(), &graph);
    if (graph) driver().cuGraphDestroy(graph);
    cuda().remove_capture(capture_id_);
  }
  queue_->close();
}

CudaDevice& CudaStream::cuda() const { return *static_cast<CudaDevice*>(const_cast<CudaStream*>(this)->device()); }

bool CudaStream::capturing() const {
  int32_t status = kNotCapturing;
  uint64_t id = 0;
  cuda().enter_to_free();
  driver().cuStreamGetCaptureInfo(queue_->handle(), &status, &id);
  return status != kNotCapturing;
}

std::shared_ptr<CaptureRecord> CudaStream::capture(const char* call) const {
  int32_t status = kNotCapturing;
  uint64_t id = 0;
  cuda().check(driver().cuStreamGetCaptureInfo(queue_->handle(), &status, &id), "cuStreamGetCaptureInfo");
  if (status == kNotCapturing) return nullptr;
  if (status == kInvalidated) {
    fail(SPILLWAY_STATUS_CAPTURE, call,
         "the capture that this stream is part of is broken by an earlier failure; end it and begin again");
  }
  std::shared_ptr<CaptureRecord> record = cuda().capture(id);
  if (!record) fail(SPILLWAY_STATUS_CAPTURE, call, "the stream is being captured by somebody else");
  return record;
}

void CudaStream::refuse_in_capture(const char* call, const char* what) const {
  if (capturing()) {
    fail(SPILLWAY_STATUS_CAPTURE, call, "%s is not possible while the stream is being captured; end the capture first",
         what);
  }
}

StreamWork CudaStream::begin(const char* call) { return {queue_, capture(call), replays()}; }

void CudaStream::synchronize() {
  cuda().enter("stream_synchronize");
  refuse_in_capture("stream_synchronize", "waiting for a stream");
  cuda().check(driver().cuStreamSynchronize(queue_->handle()), "cuStreamSynchronize");
}

void CudaStream::notify(std::function<void(spillway_status)> done) {
  cuda().enter("stream_notify");
  refuse_in_capture("stream_notify", "waiting for a stream");
  if (!queue_->when_done(std::move(done))) fail(SPILLWAY_STATUS_CLOSED, "stream_notify", "this stream was disposed");
}

void CudaStream::record(Event& event, bool external) {
  cuda().enter("event_record");
  auto& target = static_cast<CudaEvent&>(event);
  std::shared_ptr<CaptureRecord> record = capture("event_record");
  if (record && external) {
    {
      // The replays write the event.
      std::lock_guard lock(record->mutex);
      record->external_events.add(target, ExternalEvents::Use::kRecord);
      record->kept.keep(static_cast<Object&>(target));
    }
    cuda().check(driver().cuEventRecordWithFlags(target.handle(), queue_->handle(), kExternal),
                 "cuEventRecordWithFlags");
    return;
  }
  cuda().check(driver().cuEventRecord(target.handle(), queue_->handle()), "cuEventRecord");
  target.set_capture_id(record ? record->id : 0);
}

void CudaStream::record(Timestamp& timestamp) {
  cuda().enter("timestamp_record");
  auto& target = static_cast<CudaTimestamp&>(timestamp);
  std::shared_ptr<CaptureRecord> record = capture("timestamp_record");
  if (record) {
    // The replays write the event.
    std::lock_guard lock(record->mutex);
    record->kept.keep(static_cast<Object&>(target));
  }
  // Without the flag a capture would only note where the event stands, and no replay would stamp it.
  cuda().check(driver().cuEventRecordWithFlags(target.handle(), queue_->handle(), record ? kExternal : 0),
               "cuEventRecordWithFlags");
}

void CudaStream::wait(Event& event, bool external) {
  cuda().enter("event_wait");
  auto& source = static_cast<CudaEvent&>(event);
  std::shared_ptr<CaptureRecord> record = capture("event_wait");
  if (!record) {
    cuda().check(driver().cuStreamWaitEvent(queue_->handle(), source.handle(), 0), "cuStreamWaitEvent");
    return;
  }
  if (external) {
    // The replays read the event.
    std::lock_guard lock(record->mutex);
    record->external_events.add(source, ExternalEvents::Use::kWait);
    record->kept.keep(static_cast<Object&>(source));
  } else if (source.capture_id() != record->id) {
    // The driver would refuse it too, and break the capture.
    fail(SPILLWAY_STATUS_CAPTURE, "event_wait",
         "the event was not recorded in this capture; to wait for it at every replay, ask for an external wait");
  }
  cuda().check(driver().cuStreamWaitEvent(queue_->handle(), source.handle(), external ? kExternal : 0),
               "cuStreamWaitEvent");
}

void CudaStream::copy(const std::vector<Copy>& copies) {
  bool pageable = false;
  for (const Copy& copy : copies) {
    const auto& to = static_cast<CudaBuffer&>(*copy.to);
    const auto& from = static_cast<CudaBuffer&>(*copy.from);
    check_copy(copy, to.bytes(), to.address(), from.bytes(), from.address());
    pageable |= to.storage() == SPILLWAY_STORAGE_PAGEABLE || from.storage() == SPILLWAY_STORAGE_PAGEABLE;
  }
  cuda().enter("copy");
  StreamWork work = begin("copy");
  if (work.record() && pageable) {
    fail(SPILLWAY_STATUS_CAPTURE, "copy",
         "pageable host memory cannot be copied in a capture: the driver stages such copies through the calling "
         "thread. Use pinned memory, or run without capturing");
  }
  CaptureRecord::Totals totals;
  std::vector<Copy> wanted;
  for (const Copy& copy : copies) {
    if (copy.bytes == 0) continue;
    wanted.push_back(copy);
    auto& to = static_cast<CudaBuffer&>(*copy.to);
    auto& from = static_cast<CudaBuffer&>(*copy.from);
    work.keep(to);
    work.keep(from);
    totals.count_copy(to, from, copy.bytes);
  }
  if (wanted.size() > 1 && !work.record() && !pageable && driver().cuMemcpyBatchAsync) {
    copy_batch(wanted);
  } else {
    for (const Copy& copy : wanted) {
      cuda().check(driver().cuMemcpyAsync(static_cast<CudaBuffer&>(*copy.to).address() + copy.to_offset,
                                          static_cast<CudaBuffer&>(*copy.from).address() + copy.from_offset, copy.bytes,
                                          queue_->handle()),
                   "cuMemcpyAsync");
    }
  }
  count(work.record(), totals);
}

void CudaStream::copy_batch(const std::vector<Copy>& copies) {
  std::vector<Address> to;
  std::vector<Address> from;
  std::vector<size_t> bytes;
  for (const Copy& copy : copies) {
    to.push_back(static_cast<CudaBuffer&>(*copy.to).address() + copy.to_offset);
    from.push_back(static_cast<CudaBuffer&>(*copy.from).address() + copy.from_offset);
    bytes.push_back(copy.bytes);
  }
  CopyAttributes attributes;
  size_t first = 0;
  size_t failed = 0;
  cuda().check(driver().cuMemcpyBatchAsync(to.data(), from.data(), bytes.data(), copies.size(), &attributes, &first, 1,
                                           &failed, queue_->handle()),
               "cuMemcpyBatchAsync");
}

void CudaStream::count(const std::shared_ptr<CaptureRecord>& record, const CaptureRecord::Totals& totals) {
  if (!record) {
    totals.add_to(cuda().counters());
    queue_->trim();
    return;
  }
  std::lock_guard lock(record->mutex);
  record->totals.add(totals);
}

void CudaStream::fill(Buffer& to_buffer, uint64_t offset, uint64_t bytes, uint8_t value) {
  auto& to = static_cast<CudaBuffer&>(to_buffer);
  check_range("fill", "target", to.bytes(), offset, bytes);
  cuda().enter("fill");
  StreamWork work = begin("fill");
  if (to.storage() == SPILLWAY_STORAGE_PAGEABLE) {
    fail(SPILLWAY_STATUS_NOT_SUPPORTED, "fill",
         "a GPU cannot fill pageable host memory; use HostBuffer.write, or pinned memory");
  }
  if (bytes == 0) return;
  work.keep(to);
  cuda().check(driver().cuMemsetD8Async(to.address() + offset, value, bytes, queue_->handle()), "cuMemsetD8Async");
  count(work.record(), {});
}

void CudaStream::launch(const spillway_launch& launch) {
  if (launch.kernel == nullptr) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "launch", "there is no kernel to launch");
  cuda().enter("launch");
  FunctionHandle function = cuda().modules().function(*launch.kernel, launch.shared_bytes);
  StreamWork work = begin("launch");
  work.keep(launch.kernel->name, launch.accesses, launch.access_count);
  launch_function(function, launch, (launch.kernel->flags & SPILLWAY_KERNEL_STARTS_EARLY) != 0, work);
}

void CudaStream::launch(CudaKernel& kernel, const spillway_launch& launch) {
  cuda().enter("launch");
  FunctionHandle function = kernel.function(launch.shared_bytes);
  StreamWork work = begin("launch");
  work.keep(static_cast<Object&>(kernel));
  work.keep(kernel.name().c_str(), launch.accesses, launch.access_count);
  launch_function(function, launch, false, work);
}

void CudaStream::launch_function(FunctionHandle function, const spillway_launch& launch, bool starts_early,
                                 const StreamWork& work) {
  LaunchAttribute early;
  early.id = 6;  // CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
  early.value = 1;
  LaunchConfiguration configuration = {
      {launch.grid[0], launch.grid[1], launch.grid[2]},
      {launch.block[0], launch.block[1], launch.block[2]},
      launch.shared_bytes,
      queue_->handle(),
      &early,
      // Earlier GPUs have no such wait; what the image does there is nothing.
      starts_early && cuda().compute_capability() >= 90 ? 1u : 0u,
  };
  size_t argument_bytes = launch.argument_bytes;
  // CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE, CU_LAUNCH_PARAM_END
  void* extra[] = {reinterpret_cast<void*>(1), const_cast<void*>(launch.arguments), reinterpret_cast<void*>(2),
                   &argument_bytes, nullptr};
  cuda().check(driver().cuLaunchKernelEx(&configuration, function, nullptr, extra), "cuLaunchKernelEx");
  CaptureRecord::Totals totals;
  totals.launches = 1;
  count(work.record(), totals);
}

void CudaStream::enqueue(const spillway_access* accesses, uint32_t access_count, spillway_cuda_work enqueue_work,
                         void* state) {
  cuda().enter("enqueue");
  StreamWork work = begin("enqueue");
  work.keep("of another library", accesses, access_count);
  const spillway_status status = enqueue_work(state, queue_->handle());
  if (status != SPILLWAY_STATUS_OK) fail(status, "enqueue", "the work of another library could not be enqueued");
  CaptureRecord::Totals totals;
  totals.launches = 1;
  count(work.record(), totals);
}

void CudaStream::begin_capture() {
  cuda().enter("begin_capture");
  refuse_in_capture("begin_capture", "beginning another capture");
  queue_->mark();
  cuda().check(driver().cuStreamBeginCapture(queue_->handle(), kThreadLocal), "cuStreamBeginCapture");
  int32_t status = kNotCapturing;
  cuda().check(driver().cuStreamGetCaptureInfo(queue_->handle(), &status, &capture_id_), "cuStreamGetCaptureInfo");
  cuda().add_capture(capture_id_, std::make_shared<CaptureRecord>(capture_id_));
}

Graph* CudaStream::end_capture() {
  cuda().enter("end_capture");
  if (capture_id_ == 0) fail(SPILLWAY_STATUS_CAPTURE, "end_capture", "this stream did not begin a capture");
  std::shared_ptr<CaptureRecord> record = cuda().capture(capture_id_);
  cuda().remove_capture(std::exchange(capture_id_, 0));
  GraphHandle graph = nullptr;
  constexpr Result kUnjoined = 904;
  const Result result = driver().cuStreamEndCapture(queue_->handle(), &graph);
  if (result == kUnjoined) {
    fail(SPILLWAY_STATUS_CAPTURE, "end_capture",
         "the capture was dropped: a stream that joined it has work nobody waits for. Record an event on that stream "
         "and let the capturing stream wait for it before the capture ends");
  }
  cuda().check(result, "cuStreamEndCapture");
  return new CudaGraph(cuda(), graph, std::move(record));
}

void CudaStream::replay(Graph& graph) {
  cuda().enter("graph_launch");
  refuse_in_capture("graph_launch", "launching a graph");
  auto& source = static_cast<CudaGraph&>(graph);
  queue_->keep(source);
  cuda().check(driver().cuGraphLaunch(source.executable(), queue_->handle()), "cuGraphLaunch");
  source.record().totals.add_to(cuda().counters());
  cuda().counters().graph_launches.fetch_add(1, std::memory_order_relaxed);
  graph.count_replay();
  queue_->trim();
}

}  // namespace spillway::device::cuda
