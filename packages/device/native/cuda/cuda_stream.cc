#include "cuda_stream.hpp"

#include <cstring>

#include "../failure.hpp"
#include "../range_check.hpp"
#include "cuda_device.hpp"
#include "cuda_graph.hpp"

namespace spillway::device::cuda {

constexpr int32_t kThreadLocal = 1;  // CU_STREAM_CAPTURE_MODE_*: what other threads do does not break a capture
constexpr int32_t kNotCapturing = 0;
constexpr int32_t kInvalidated = 2;
constexpr uint32_t kExternal = 1;

CudaStream::CudaStream(CudaDevice& device, uint32_t priority)
    : Stream(SPILLWAY_KIND_STREAM, &device),
      priority_(priority),
      queue_(StreamQueue::start(device, device.stream_priority(priority))) {
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

template <typename T>
void CudaStream::keep(const std::shared_ptr<CaptureRecord>& capture, T& object) {
  if (capture) {
    std::lock_guard lock(capture->mutex);
    capture->kept.keep(object);
  } else {
    queue_->keep(object);
  }
}

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

void CudaStream::record(Event& event) {
  cuda().enter("event_record");
  auto& target = static_cast<CudaEvent&>(event);
  std::shared_ptr<CaptureRecord> record = capture("event_record");
  cuda().check(driver().cuEventRecord(target.handle(), queue_->handle()), "cuEventRecord");
  target.set_capture_id(record ? record->id : 0);
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
    keep(record, static_cast<Object&>(source));
  } else if (source.capture_id() != record->id) {
    // The driver would refuse it too, and break the capture.
    fail(SPILLWAY_STATUS_CAPTURE, "event_wait",
         "the event was not recorded in this capture; to wait for it at every replay, ask for an external wait");
  }
  cuda().check(driver().cuStreamWaitEvent(queue_->handle(), source.handle(), external ? kExternal : 0),
               "cuStreamWaitEvent");
}

void CudaStream::copy(Buffer& to_buffer, uint64_t to_offset, Buffer& from_buffer, uint64_t from_offset,
                      uint64_t bytes) {
  auto& to = static_cast<CudaBuffer&>(to_buffer);
  auto& from = static_cast<CudaBuffer&>(from_buffer);
  check_range("copy", "target", to.bytes(), to_offset, bytes);
  check_range("copy", "source", from.bytes(), from_offset, bytes);
  check_apart(to.address() + to_offset, from.address() + from_offset, bytes);
  cuda().enter("copy");
  std::shared_ptr<CaptureRecord> record = capture("copy");
  if (record && (to.storage() == SPILLWAY_STORAGE_PAGEABLE || from.storage() == SPILLWAY_STORAGE_PAGEABLE)) {
    fail(SPILLWAY_STATUS_CAPTURE, "copy",
         "pageable host memory cannot be copied in a capture: the driver stages such copies through the calling "
         "thread. Use pinned memory, or run without capturing");
  }
  if (bytes == 0) return;
  keep(record, to);
  keep(record, from);
  cuda().check(driver().cuMemcpyAsync(to.address() + to_offset, from.address() + from_offset, bytes, queue_->handle()),
               "cuMemcpyAsync");
  CaptureRecord::Totals totals;
  if (to.on_device() && from.on_device()) {
    totals.device_to_device_bytes = bytes;
  } else if (to.on_device()) {
    totals.to_device[to.tag()] = {bytes, 1};
  } else if (from.on_device()) {
    totals.to_host_bytes = bytes;
    totals.to_host_copies = 1;
  } else {
    totals.host_to_host_bytes = bytes;
  }
  count(record, totals);
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
  std::shared_ptr<CaptureRecord> record = capture("fill");
  if (to.storage() == SPILLWAY_STORAGE_PAGEABLE) {
    fail(SPILLWAY_STATUS_NOT_SUPPORTED, "fill",
         "a GPU cannot fill pageable host memory; use HostBuffer.write, or pinned memory");
  }
  if (bytes == 0) return;
  keep(record, to);
  cuda().check(driver().cuMemsetD8Async(to.address() + offset, value, bytes, queue_->handle()), "cuMemsetD8Async");
  count(record, {});
}

void CudaStream::launch(const spillway_launch& launch) {
  if (launch.kernel == nullptr) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "launch", "there is no kernel to launch");
  cuda().enter("launch");
  FunctionHandle function = cuda().modules().function(*launch.kernel, launch.shared_bytes);
  std::shared_ptr<CaptureRecord> record = capture("launch");
  for (uint32_t i = 0; i < launch.access_count; ++i) {
    const spillway_access& access = launch.accesses[i];
    auto& buffer = *static_cast<CudaBuffer*>(reinterpret_cast<Object*>(access.buffer));
    check_access(launch.kernel->name, access, buffer.bytes(), buffer.info().device_address != 0);
    keep(record, buffer);
  }
  size_t argument_bytes = launch.argument_bytes;
  // CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE, CU_LAUNCH_PARAM_END
  void* extra[] = {reinterpret_cast<void*>(1), const_cast<void*>(launch.arguments), reinterpret_cast<void*>(2),
                   &argument_bytes, nullptr};
  cuda().check(
      driver().cuLaunchKernel(function, launch.grid[0], launch.grid[1], launch.grid[2], launch.block[0],
                              launch.block[1], launch.block[2], launch.shared_bytes, queue_->handle(), nullptr, extra),
      "cuLaunchKernel");
  CaptureRecord::Totals totals;
  totals.launches = 1;
  count(record, totals);
}

void CudaStream::begin_capture() {
  cuda().enter("begin_capture");
  refuse_in_capture("begin_capture", "beginning another capture");
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
  queue_->trim();
}

}  // namespace spillway::device::cuda
