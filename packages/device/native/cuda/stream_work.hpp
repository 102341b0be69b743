#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "../range_check.hpp"
#include "cuda_buffer.hpp"
#include "cuda_graph.hpp"
#include "stream_queue.hpp"

namespace spillway::device::cuda {

/// One piece of work, from before it is enqueued until after: what it uses is kept by the stream, or by the capture.
class StreamWork {
 public:
  /// `record`: of the capture that the stream is part of, if any; `replays`: the stream's.
  StreamWork(std::shared_ptr<StreamQueue> queue, std::shared_ptr<CaptureRecord> record, const ReplayCount& replays)
      : queue_(std::move(queue)), record_(std::move(record)) {
    if (!record_) return;
    std::lock_guard lock(record_->mutex);
    record_->streams.insert(replays);
  }
  StreamWork(const StreamWork&) = delete;
  StreamWork& operator=(const StreamWork&) = delete;
  // Also when enqueuing failed: part of it may have been.
  ~StreamWork() {
    if (!blocks_.empty()) queue_->note(blocks_);
  }

  /// Null: not captured.
  const std::shared_ptr<CaptureRecord>& record() const { return record_; }

  void keep(CudaBuffer& buffer) {
    StreamUses* uses = buffer.stream_uses();
    if (record_ || uses == nullptr) {
      keep_object(buffer);
    } else {
      uses->prepare(queue_);
      blocks_.push_back(uses);
    }
  }
  void keep(CudaGraph& graph) { keep_object(graph); }
  void keep(Object& object) { keep_object(object); }
  void keep(const char* kernel, const spillway_access* accesses, uint32_t access_count) {
    blocks_.reserve(access_count);
    for (uint32_t i = 0; i < access_count; ++i) {
      auto& buffer = *static_cast<CudaBuffer*>(reinterpret_cast<Object*>(accesses[i].buffer));
      check_access(kernel, accesses[i], buffer.bytes(), buffer.info().device_address != 0);
      keep(buffer);
    }
  }

 private:
  template <typename T>
  void keep_object(T& object) {
    if (record_) {
      std::lock_guard lock(record_->mutex);
      record_->kept.keep(object);
    } else {
      queue_->keep(object);
    }
  }

  const std::shared_ptr<StreamQueue> queue_;
  const std::shared_ptr<CaptureRecord> record_;
  std::vector<StreamUses*> blocks_;
};

}  // namespace spillway::device::cuda
