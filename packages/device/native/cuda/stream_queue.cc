#include "stream_queue.hpp"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>

#include "../failure.hpp"
#include "cuda_device.hpp"
#include "cuda_graph.hpp"

namespace spillway::device::cuda {

constexpr uint32_t kNonBlocking = 1;
constexpr uint32_t kDisableTiming = 2;
// So many objects are kept before somebody looks whether they are still needed.
constexpr size_t kKeptBeforeTrim = 4096;

static CudaBuffer* as_buffer(Object* object) {
  const uint32_t kind = object->kind();
  const bool buffer = kind == SPILLWAY_KIND_DEVICE_BUFFER || kind == SPILLWAY_KIND_HOST_BUFFER;
  return buffer ? static_cast<CudaBuffer*>(object) : nullptr;
}

void KeptObjects::keep(CudaBuffer& buffer) {
  if (objects_.contains(&buffer)) return;
  if (purpose_ == Purpose::kUsed) buffer.begin_use();
  keep(static_cast<Object&>(buffer));
}

void KeptObjects::keep(CudaGraph& graph) {
  if (objects_.contains(&graph)) return;
  if (purpose_ == Purpose::kUsed) graph.record().kept.begin_use();
  keep(static_cast<Object&>(graph));
}

void KeptObjects::keep(Object& object) {
  if (objects_.insert(&object).second) object.retain();
}

void KeptObjects::begin_use() {
  for (auto at = objects_.begin(); at != objects_.end(); ++at) {
    CudaBuffer* buffer = as_buffer(*at);
    if (buffer == nullptr) continue;
    try {
      buffer->begin_use();
    } catch (...) {
      for (auto begun = objects_.begin(); begun != at; ++begun) {
        if (CudaBuffer* earlier = as_buffer(*begun)) earlier->end_use();
      }
      throw;
    }
  }
}

void KeptObjects::end_use() noexcept {
  for (Object* object : objects_) {
    if (CudaBuffer* buffer = as_buffer(object)) buffer->end_use();
  }
}

void KeptObjects::release() noexcept {
  for (Object* object : objects_) {
    if (purpose_ == Purpose::kUsed) {
      if (CudaBuffer* buffer = as_buffer(object)) buffer->end_use();
      if (object->kind() == SPILLWAY_KIND_GRAPH) static_cast<CudaGraph*>(object)->record().kept.end_use();
    }
    object->release();
  }
  objects_.clear();
}

StreamQueue::StreamQueue(CudaDevice& device, bool owned)
    : StreamProgress(device.next_stream_id()), device_(device), owned_(owned) {}

std::shared_ptr<StreamQueue> StreamQueue::create(CudaDevice& device, int32_t priority) {
  std::shared_ptr<StreamQueue> queue(new StreamQueue(device, true));
  device.check(driver().cuStreamCreateWithPriority(&queue->handle_, kNonBlocking, priority),
               "cuStreamCreateWithPriority");
  start(queue);
  return queue;
}

std::shared_ptr<StreamQueue> StreamQueue::borrow(CudaDevice& device, StreamHandle handle) {
  std::shared_ptr<StreamQueue> queue(new StreamQueue(device, false));
  queue->handle_ = handle;
  start(queue);
  return queue;
}

void StreamQueue::start(const std::shared_ptr<StreamQueue>& queue) {
  try {
    // Detached: it may end the last handle of the device, which could not join it.
    std::thread([queue = queue, keep = Ref<CudaDevice>(&queue->device_)]() mutable {
      queue->work();
      queue.reset();
    }).detach();
  } catch (const std::system_error& failure) {
    fail_system("stream_create", failure.code().value(), "the system gives no more threads");
  }
}

StreamQueue::~StreamQueue() {
  device_.enter_to_free();
  if (spare_event_) driver().cuEventDestroy(spare_event_);
  for (const Mark& mark : marks_) driver().cuEventDestroy(mark.event);
  if (owned_ && handle_) driver().cuStreamDestroy(handle_);
}

void StreamQueue::push(std::unique_lock<std::mutex>& lock, std::function<void(spillway_status)> done) {
  EventHandle event = spare_event_ ? std::exchange(spare_event_, nullptr) : nullptr;
  Result result = event ? kSuccess : driver().cuEventCreate(&event, kDisableTiming);
  if (result == kSuccess) result = driver().cuEventRecord(event, handle_);
  if (result != kSuccess && event) {
    driver().cuEventDestroy(event);
    event = nullptr;
  }
  points_.push_back({event, std::move(kept_), std::move(done), position_});
  kept_ = KeptObjects();
  lock.unlock();
  wake_.notify_one();
}

void StreamQueue::note(const std::vector<StreamUses*>& blocks) noexcept {
  uint64_t position = 0;
  {
    std::lock_guard lock(mutex_);
    position = ++position_;
  }
  for (StreamUses* block : blocks) block->note(stream_id, position);
}

bool StreamQueue::capturing() const noexcept {
  int32_t capturing = 0;
  uint64_t id = 0;
  // Asking a stream that is being captured for anything else breaks the capture.
  return driver().cuStreamGetCaptureInfo(handle_, &capturing, &id) == kSuccess && capturing != 0;
}

bool StreamQueue::passed(uint64_t position) noexcept {
  if (reached->load(std::memory_order_acquire) >= position) return true;
  std::lock_guard lock(mutex_);
  return passed_locked(position);
}

// A driver that fails here has lost the device, and with it all work.
bool StreamQueue::passed_locked(uint64_t position) noexcept {
  if (ended_) reach(position_);
  const RelaxedCapture relaxed;
  device_.enter_to_free();
  while (!marks_.empty() && driver().cuEventQuery(marks_.front().event) != kNotReady) {
    reach(marks_.front().position);
    driver().cuEventDestroy(marks_.front().event);
    marks_.pop_front();
  }
  if (reached->load(std::memory_order_relaxed) >= position) return true;
  if (!marks_.empty() && marks_.back().position >= position) return false;
  if (capturing()) return false;
  if (driver().cuStreamQuery(handle_) != kNotReady) {
    reach(position_);
    return true;
  }
  Mark mark{nullptr, position_};
  if (driver().cuEventCreate(&mark.event, kDisableTiming) != kSuccess) return false;
  try {
    if (driver().cuEventRecord(mark.event, handle_) == kSuccess) {
      marks_.push_back(mark);
      return false;
    }
  } catch (const std::bad_alloc&) {
    // The next to ask tries again.
  }
  driver().cuEventDestroy(mark.event);
  return false;
}

void StreamQueue::wait_until_passed(uint64_t position) {
  using std::chrono::microseconds;
  for (microseconds nap{20}; !passed(position); nap = std::min(nap * 2, microseconds{500})) {
    {
      std::lock_guard lock(mutex_);
      if (marks_.empty() && capturing()) {
        fail(SPILLWAY_STATUS_CAPTURE, "buffer_create",
             "device memory is short, and what is free was used by a stream that is being captured: end the capture, "
             "or allocate before it");
      }
    }
    std::this_thread::sleep_for(nap);
  }
}

void StreamQueue::mark() noexcept { passed(UINT64_MAX); }

void StreamQueue::trim() {
  std::unique_lock lock(mutex_);
  if (kept_.size() >= kKeptBeforeTrim) push(lock, {});
}

bool StreamQueue::when_done(std::function<void(spillway_status)> done) {
  device_.enter_to_free();
  std::unique_lock lock(mutex_);
  if (ended_) return false;
  push(lock, std::move(done));
  return true;
}

void StreamQueue::collect() {
  KeptObjects done;
  std::lock_guard lock(mutex_);
  if (capturing()) return;
  // What points keep goes when their thread sees that they are done.
  if (points_.empty() && driver().cuStreamQuery(handle_) == kSuccess) done = std::move(kept_);
}

void StreamQueue::close() {
  device_.enter_to_free();
  std::unique_lock lock(mutex_);
  closed_ = true;
  push(lock, {});
}

// A driver's blocking wait of some milliseconds ends 0.7 ms late (measured on an H200), a sixth of a token's time, and
// its spinning one takes a processor. So the event is asked, between naps that grow with the wait: never later than by
// a sixty-fourth of it, or by the shortest nap.
static Result wait_for(EventHandle event) {
  using std::chrono::microseconds;
  constexpr microseconds kShortest{20};
  constexpr microseconds kLongest{1000};
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    // Uncounted: how often depends on the time it takes.
    const Result result = driver().cuEventQuery.pointer(event);
    if (result != kNotReady) return result;
    const auto waited = std::chrono::duration_cast<microseconds>(std::chrono::steady_clock::now() - start);
    if (waited < 2 * kShortest) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::clamp(waited / 64, kShortest, kLongest));
    }
  }
}

void StreamQueue::work() {
  prctl(PR_SET_TIMERSLACK, 1000ul);  // ns; else naps take 50 µs longer
  device_.enter_to_free();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return closed_ || !points_.empty(); });
    if (points_.empty()) {
      ended_ = true;
      return;
    }
    // Left in the queue until it is done: collect() must not take the stream for idle.
    const EventHandle event = points_.front().event;
    lock.unlock();
    const Result result = event ? wait_for(event) : driver().cuStreamSynchronize(handle_);
    spillway_status status = status_of(result);
    try {
      device_.check(result, "cuEventQuery");
    } catch (const StatusError&) {
      // Told to whoever waits.
    }
    lock.lock();
    Point point = std::move(points_.front());
    points_.pop_front();
    reach(point.position);
    // Of waits that follow one another, each uses the one before's.
    EventHandle unused = std::exchange(spare_event_, event);
    lock.unlock();
    if (unused) driver().cuEventDestroy(unused);
    // The objects first: who is told that all is done may count them.
    point.kept = KeptObjects();
    if (point.done) point.done(status);
    point = Point();
    lock.lock();
  }
}

}  // namespace spillway::device::cuda
