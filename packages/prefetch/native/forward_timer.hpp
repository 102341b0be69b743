// Chooses which forwards leave marks, and reads what they say.
#pragma once

#include <cmath>
#include <deque>
#include <memory>
#include <vector>

#include "forward_marks.hpp"

namespace spillway::prefetch {

/// Of an element in one forward, in milliseconds; NaN: never measured.
struct ElementTimes {
  double link_ms = NAN;  // of its copies; 0 when it is never copied again
  double wait_ms = NAN;  // its kernels stood still until its copy was there
};

/// A mark of a trace.
struct TraceMark {
  uint32_t kind;
  uint32_t label;
  double ms;
};

/// One thread at a time; nothing blocks. Methods throw StatusError unless they say otherwise.
class ForwardTimer {
 public:
  /// `copied_again`: by element, whether a forward copies it. The caller keeps the device.
  ForwardTimer(const spillway_api* api, spillway_device* device, std::vector<bool> copied_again);

  /// False: the device has no timestamps, and nothing is ever marked.
  bool can_time() const { return timing_ != nullptr; }

  /// Where the forward that begins now records its marks. Null: it is not timed.
  std::shared_ptr<ForwardMarks> begin(bool capturing);

  /// From now on every forward is timed; one that is captured then, at each replay and for good. The trace begins where
  /// the stream is now.
  void begin_trace(spillway_stream* stream);
  /// The marks that were reached since, in order: of forwards outside of captures, and of each captured one's last
  /// replay if that came after the begin.
  std::vector<TraceMark> end_trace();

  /// Of the forward or replay that began last among those that are timed; of what is not reached yet, what was known
  /// before. Does not throw: what cannot be read is not known.
  const std::vector<ElementTimes>& times() noexcept;

 private:
  using Marks = std::shared_ptr<ForwardMarks>;
  Marks make() const { return std::make_shared<ForwardMarks>(api_, timing_, device_); }
  Marks begun_last() const;
  void read(const ForwardMarks& marks);

  const spillway_api* const api_;
  spillway_device* const device_;
  const spillway_timing_api* const timing_;
  const std::vector<bool> copied_again_;
  std::vector<ElementTimes> times_;
  uint64_t eager_forwards_ = 0;
  Marks sample_;                // used again and again
  Marks eager_;                 // of the last timed forward outside of captures
  std::deque<Marks> captured_;  // the last ones
  Marks trace_begin_;           // one mark; null: no trace
  std::vector<Marks> traced_;
};

}  // namespace spillway::prefetch
