// When work of a forward was done, by the device's own clock: timestamps between its copies, waits and kernels.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <spillway/abi.hpp>
#include <vector>

namespace spillway::prefetch {

/// What is done where a mark is. Labels are elements of the ring, or from their number on the caller's.
enum MarkKind : uint32_t {
  kMarkReached = 0,    // everything before the element
  kMarkBegin = 1,      // and its copy
  kMarkEnd = 2,        // and its kernels
  kMarkCopyBegin = 3,  // what its copy waits for
  kMarkCopyEnd = 4,    // its copy
  kMarkJoined = 5,     // its copy, for which the end of a captured forward has waited since kMarkReached
};

struct Mark {
  uint32_t kind;
  uint32_t label;
  Reference<spillway_timestamp> timestamp;
};

/// The marks of one forward, in the order in which they were recorded. Those of a captured forward are nodes of its
/// graph: each replay stamps them anew. All methods throw StatusError; one thread at a time.
class ForwardMarks {
 public:
  ForwardMarks(const spillway_api* api, const spillway_timing_api* timing, spillway_device* device)
      : api_(api), timing_(timing), device_(device) {}

  void record(spillway_stream* stream, uint32_t kind, uint32_t label) {
    if (used_ == marks_.size()) {
      spillway_timestamp* timestamp = nullptr;
      check(timing_->create, device_, &timestamp);
      marks_.push_back({0, 0, Reference<spillway_timestamp>::adopt(api_, timestamp)});
    }
    Mark& mark = marks_[used_];
    mark.kind = kind;
    mark.label = label;
    check(timing_->record, mark.timestamp.get(), stream);
    ++used_;
  }
  /// To be used for another forward; the timestamps stay.
  void clear() { used_ = 0; }

  size_t size() const { return used_; }
  const Mark& operator[](size_t i) const { return marks_[i]; }
  /// Milliseconds; NaN while they are not known.
  double elapsed_ms(const Mark& from, const Mark& to) const {
    double ms = NAN;
    check(timing_->elapsed, from.timestamp.get(), to.timestamp.get(), &ms);
    return ms;
  }

 private:
  const spillway_api* api_;
  const spillway_timing_api* timing_;
  spillway_device* device_;  // who has the marks keeps it
  std::vector<Mark> marks_;
  size_t used_ = 0;  // the rest are spare
};

}  // namespace spillway::prefetch
