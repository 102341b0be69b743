// A stream of the GPU's, what its enqueued work keeps alive, and the thread that waits for it: the GPU calls nobody
// back once its context has failed, a waiting thread always returns.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "../device.hpp"
#include "cuda_buffer.hpp"

namespace spillway::device::cuda {

class CudaGraph;

/// Objects that enqueued work uses, or may use later: what is only held may lose its memory meanwhile.
class KeptObjects {
 public:
  enum class Purpose : bool { kHeld, kUsed };
  explicit KeptObjects(Purpose purpose = Purpose::kUsed) : purpose_(purpose) {}
  KeptObjects(const KeptObjects&) = delete;
  KeptObjects& operator=(const KeptObjects&) = delete;
  KeptObjects(KeptObjects&& other) noexcept : purpose_(other.purpose_), objects_(std::exchange(other.objects_, {})) {}
  KeptObjects& operator=(KeptObjects&& other) noexcept {
    release();
    purpose_ = other.purpose_;
    objects_ = std::exchange(other.objects_, {});
    return *this;
  }
  ~KeptObjects() { release(); }
  /// Throws, and keeps nothing, when a buffer has no memory behind it.
  void keep(CudaBuffer& buffer);
  /// With the buffers of its work.
  void keep(CudaGraph& graph);
  void keep(Object& object);
  size_t size() const { return objects_.size(); }
  /// Uses all that is held. Throws, and uses nothing, when a buffer has no memory behind it.
  void begin_use();
  void end_use() noexcept;

 private:
  void release() noexcept;
  Purpose purpose_;
  std::unordered_set<Object*> objects_;
};

class StreamQueue : public StreamProgress, public std::enable_shared_from_this<StreamQueue> {
 public:
  /// The thread keeps the device, and ends, with the stream, after close() and when all is done.
  static std::shared_ptr<StreamQueue> create(CudaDevice& device, int32_t priority);
  /// Over a stream of somebody else's, who keeps it until this is closed and its work done.
  static std::shared_ptr<StreamQueue> borrow(CudaDevice& device, StreamHandle handle);
  ~StreamQueue();

  StreamHandle handle() const { return handle_; }
  /// Before the work that uses it is enqueued.
  template <typename T>
  void keep(T& object) {
    std::lock_guard lock(mutex_);
    kept_.keep(object);
  }
  /// Work with the blocks was enqueued.
  void note(const std::vector<StreamUses*>& blocks) noexcept;
  bool passed(uint64_t position) noexcept override;
  /// Throws CAPTURE when nobody can know, because the stream is being captured.
  void wait_until_passed(uint64_t position) override;
  /// Records where everything enqueued so far ends, if that may be asked for while the stream is captured.
  void mark() noexcept;
  /// Lets go, in time, of what work that is done kept. Now and then, while nobody waits.
  void trim();
  /// Calls back, on the waiting thread, when everything enqueued so far is done, or cannot be any more. false, and
  /// nothing will be called, after the thread has ended.
  bool when_done(std::function<void(spillway_status)> done);
  /// Lets go now of what nothing enqueued uses any more, if the stream is idle.
  void collect();
  void close();

 private:
  struct Point {
    EventHandle event;  // null: the recording failed, nothing to wait for
    KeptObjects kept;
    std::function<void(spillway_status)> done;  // may be empty
    uint64_t position;                          // of the last work before it
  };
  struct Mark {
    EventHandle event;
    uint64_t position;
  };
  StreamQueue(CudaDevice& device, bool owned);
  bool passed_locked(uint64_t position) noexcept;
  bool capturing() const noexcept;
  static void start(const std::shared_ptr<StreamQueue>& queue);
  void push(std::unique_lock<std::mutex>& lock, std::function<void(spillway_status)> done);
  void work();

  CudaDevice& device_;  // the thread keeps it
  const bool owned_;
  StreamHandle handle_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
  KeptObjects kept_;  // by work after the last point
  std::deque<Point> points_;
  EventHandle spare_event_ = nullptr;
  std::deque<Mark> marks_;  // by position
  uint64_t position_ = 0;   // of the last work with blocks
  bool closed_ = false;
  bool ended_ = false;
};

}  // namespace spillway::device::cuda
