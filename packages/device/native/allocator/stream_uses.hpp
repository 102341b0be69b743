// Which streams may have work with a block, noted as the work is enqueued: no event is recorded, and nothing asked,
// until another stream, or nobody in particular, wants the memory.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "marker.hpp"

namespace spillway::device {

/// What a stream has enqueued, as positions from 1, and how far it is.
class StreamProgress {
 public:
  explicit StreamProgress(StreamId id) : stream_id(id) {}
  StreamProgress(const StreamProgress&) = delete;
  StreamProgress& operator=(const StreamProgress&) = delete;
  /// Nothing is left to be done.
  virtual ~StreamProgress() { reach(UINT64_MAX); }

  const StreamId stream_id;
  /// The last position that is known to have been passed. Lives on: who sees only that the stream is gone has not seen
  /// what the stream wrote.
  const std::shared_ptr<std::atomic<uint64_t>> reached = std::make_shared<std::atomic<uint64_t>>(0);
  /// Any thread; true for good once it was true. Must not allocate device memory, nor give any back.
  virtual bool passed(uint64_t position) noexcept = 0;
  /// Blocks. Throws when that cannot be waited for now.
  virtual void wait_until_passed(uint64_t position) = 0;

 protected:
  /// In order, by one thread at a time.
  void reach(uint64_t position) noexcept {
    if (reached->load(std::memory_order_relaxed) < position) reached->store(position, std::memory_order_release);
  }
};

/// Of one block. Any thread.
class StreamUses {
 public:
  /// Before work of the stream with the block is enqueued. Throws std::bad_alloc.
  void prepare(const std::shared_ptr<StreamProgress>& stream) {
    std::lock_guard lock(mutex_);
    if (find(stream->stream_id) != nullptr) return;
    uses_.reserve(markers_.size() + 1);
    markers_.push_back(std::make_shared<Passing>(stream));
  }
  /// It was enqueued, as what `position` says.
  void note(StreamId stream, uint64_t position) noexcept {
    std::lock_guard lock(mutex_);
    Passing* marker = find(stream);
    if (marker->position < position) marker->position = position;
  }
  /// Whether all of it is done.
  bool passed() noexcept {
    std::lock_guard lock(mutex_);
    return std::all_of(markers_.begin(), markers_.end(), [](const auto& marker) { return marker->done(); });
  }
  /// What is not known to be done. Once, when no more work can come.
  Uses take() noexcept {
    std::lock_guard lock(mutex_);
    for (auto& marker : markers_) {
      if (marker->position > 0 && !marker->known_to_be_done())
        uses_.push_back({marker->stream_id, marker->position, std::move(marker)});
    }
    markers_.clear();
    return std::move(uses_);
  }

 private:
  class Passing final : public Marker {
   public:
    explicit Passing(const std::shared_ptr<StreamProgress>& stream)
        : stream_id(stream->stream_id), reached_(stream->reached), stream_(stream) {}
    bool done() noexcept override {
      if (known_to_be_done()) return true;
      const std::shared_ptr<StreamProgress> stream = stream_.lock();
      return stream && stream->passed(position);
    }
    bool known_to_be_done() const noexcept { return reached_->load(std::memory_order_acquire) >= position; }
    void wait() override {
      if (const std::shared_ptr<StreamProgress> stream = stream_.lock()) stream->wait_until_passed(position);
      // Else it is on its way out.
      while (!done()) std::this_thread::yield();
    }
    const StreamId stream_id;
    uint64_t position = 0;  // of a live block guarded by its mutex; constant once it is free

   private:
    const std::shared_ptr<std::atomic<uint64_t>> reached_;
    const std::weak_ptr<StreamProgress> stream_;
  };

  Passing* find(StreamId stream) noexcept {
    for (const auto& marker : markers_) {
      if (marker->stream_id == stream) return marker.get();
    }
    return nullptr;
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<Passing>> markers_;  // one a stream
  Uses uses_;                                      // room for all of them
};

}  // namespace spillway::device
