// Points that streams have to pass before memory is free for others.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace spillway::device {

/// Never given to another stream while memory that this one used is cached. kNoStream: the host, or whoever waits for
/// nothing: gets only memory that no work uses.
using StreamId = uint64_t;
inline constexpr StreamId kNoStream = 0;
/// The least that is not a stream's.
inline constexpr StreamId kSeveralStreams = UINT64_MAX;

/// Asked, and dropped, while the allocator is locked: must not call it.
class Marker {
 public:
  virtual ~Marker() = default;
  /// Any thread; true for good once it was true. Also true when the device is lost.
  virtual bool done() noexcept = 0;
  /// Blocks until done. Called without the allocator's lock, when the allocation would fail otherwise.
  virtual void wait() = 0;
};

/// Work of a stream with a block.
struct Use {
  StreamId stream;
  uint64_t position;  // from 1: what is enqueued later has a greater one, and is done later
  std::shared_ptr<Marker> marker;
};

/// Ordered by stream, one a stream.
using Uses = std::vector<Use>;

/// What is known of markers while many blocks are looked at: streams run in order, so one answer is good for others.
class MarkerAnswers {
 public:
  bool done(const Use& use) {
    for (Answer& answer : answers_) {
      if (answer.stream != use.stream) continue;
      if (use.position <= answer.done_position) return true;
      if (use.position >= answer.pending_position) return false;
      const bool done = use.marker->done();
      (done ? answer.done_position : answer.pending_position) = use.position;
      return done;
    }
    const bool done = use.marker->done();
    answers_.push_back({use.stream, done ? use.position : 0, done ? UINT64_MAX : use.position});
    return done;
  }

 private:
  struct Answer {
    StreamId stream;
    uint64_t done_position;
    uint64_t pending_position;
  };
  std::vector<Answer> answers_;
};

}  // namespace spillway::device
