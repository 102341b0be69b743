#include "forward_timer.hpp"

#include <algorithm>
#include <utility>

namespace spillway::prefetch {
namespace {

// A mark costs the host about a microsecond, a layer has up to five, and the backend may cost it ten a layer. One
// forward in so many costs a third of a microsecond a layer on average, and a text of a hundred tokens still has six.
// Not the first: its slots were filled before it began.
constexpr uint64_t kSampledEvery = 16;
constexpr uint64_t kSampledFirst = 2;

// Captured forwards whose replays can be read: nobody says when a graph is gone, and its marks must not pile up.
constexpr size_t kMostCaptures = 16;

const spillway_timing_api* find_timing(const spillway_api* api, spillway_device* device) {
  return static_cast<const spillway_timing_api*>(
      api->extension(device, SPILLWAY_EXTENSION_TIMING, sizeof(spillway_timing_api)));
}

/// Of one element in one forward, while its marks are read.
struct Reading {
  const Mark* reached = nullptr;  // not begun yet
  const Mark* copy_begin = nullptr;
  bool begun = false;
  bool copied = false;
  double link_ms = 0;
  double wait_ms = 0;
};

}  // namespace

ForwardTimer::ForwardTimer(const spillway_api* api, spillway_device* device, std::vector<bool> copied_again)
    : api_(api),
      device_(device),
      timing_(find_timing(api, device)),
      copied_again_(std::move(copied_again)),
      times_(copied_again_.size()) {}

std::shared_ptr<ForwardMarks> ForwardTimer::begin(bool capturing) {
  if (!can_time()) return nullptr;
  if (capturing) {
    // A node of a graph for each mark: the driver would take half as long again to launch it.
    if (!trace_begin_) return nullptr;
    if (captured_.size() == kMostCaptures) captured_.pop_front();
    return captured_.emplace_back(make());
  }
  const bool sampled = ++eager_forwards_ % kSampledEvery == kSampledFirst;
  if (trace_begin_) return eager_ = traced_.emplace_back(make());
  if (!sampled) return nullptr;
  times();  // of the last sample: its marks are about to be set again
  if (!sample_) sample_ = make();
  sample_->clear();
  return eager_ = sample_;
}

void ForwardTimer::begin_trace(spillway_stream* stream) {
  if (!can_time()) {
    throw StatusError(SPILLWAY_STATUS_NOT_SUPPORTED, "ring_trace", "this device takes no times");
  }
  const Marks begin = make();
  begin->record(stream, kMarkReached, 0);
  traced_.clear();
  trace_begin_ = begin;
}

std::vector<TraceMark> ForwardTimer::end_trace() {
  const Marks begin = std::exchange(trace_begin_, nullptr);
  const std::vector<Marks> traced = std::exchange(traced_, {});
  std::vector<TraceMark> all;
  if (!begin) return all;
  // A driver tells times as 32-bit numbers: of spans below a second they are exact to a tenth of a microsecond.
  constexpr double kLongestMs = 1000;
  const Mark* zero = &(*begin)[0];
  double zero_ms = 0;
  const auto add = [&](const ForwardMarks& marks) {
    for (size_t i = 0; i < marks.size(); ++i) {
      const double ms = begin->elapsed_ms(*zero, marks[i]);
      if (std::isnan(ms)) continue;
      all.push_back({marks[i].kind, marks[i].label, zero_ms + ms});
      if (ms < kLongestMs) continue;
      zero = &marks[i];
      zero_ms += ms;
    }
  };
  for (const Marks& marks : traced) add(*marks);
  for (const Marks& marks : captured_) {
    const size_t before = all.size();
    add(*marks);
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(before);
    const bool whole = all.size() - before == marks->size();
    // What is left of an earlier replay is none of this trace.
    if (!whole || std::any_of(first, all.end(), [](const TraceMark& mark) { return mark.ms < 0; })) {
      all.resize(before);
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const TraceMark& a, const TraceMark& b) { return a.ms < b.ms; });
  // A forward on another stream may have begun before the stream of the trace's begin got there.
  for (double first_ms = all.empty() ? 0 : all.front().ms; TraceMark & mark : all) mark.ms -= first_ms;
  return all;
}

const std::vector<ElementTimes>& ForwardTimer::times() noexcept {
  try {
    if (const Marks last = begun_last()) read(*last);
  } catch (const std::exception&) {
    // A lost device, or no memory: what is known stays.
  }
  return times_;
}

ForwardTimer::Marks ForwardTimer::begun_last() const {
  Marks last;
  const auto consider = [&](const Marks& marks) {
    if (!marks || marks->size() == 0) return;
    const Mark& first = (*marks)[0];
    // NaN: not begun, or never replayed.
    const double after_ms = marks->elapsed_ms(last ? (*last)[0] : first, first);
    if (after_ms >= 0) last = marks;
  };
  consider(eager_);
  for (const Marks& marks : captured_) consider(marks);
  return last;
}

void ForwardTimer::read(const ForwardMarks& marks) {
  std::vector<Reading> readings(times_.size());
  // NaN for what is not reached, and for the two ends of different replays: an element with one keeps what it has.
  const auto span = [&](const Mark* from, const Mark& to) {
    const double ms = marks.elapsed_ms(*from, to);
    return ms >= 0 ? ms : NAN;
  };
  for (size_t i = 0; i < marks.size(); ++i) {
    const Mark& mark = marks[i];
    if (mark.label >= readings.size()) continue;
    Reading& reading = readings[mark.label];
    if (mark.kind == kMarkReached) reading.reached = &mark;
    if (mark.kind == kMarkCopyBegin) reading.copy_begin = &mark;
    if (mark.kind == kMarkBegin) reading.begun = true;
    if ((mark.kind == kMarkBegin || mark.kind == kMarkJoined) && reading.reached) {
      reading.wait_ms += span(std::exchange(reading.reached, nullptr), mark);
    }
    if (mark.kind == kMarkCopyEnd && reading.copy_begin) {
      reading.copied = true;
      reading.link_ms += span(std::exchange(reading.copy_begin, nullptr), mark);
    }
  }
  for (size_t element = 0; element < readings.size(); ++element) {
    const Reading& reading = readings[element];
    // Left out of the forward, or only waited for: half a measurement.
    if (!reading.begun || (!reading.copied && copied_again_[element])) continue;
    if (!std::isnan(reading.link_ms) && !std::isnan(reading.wait_ms)) {
      times_[element] = {reading.link_ms, reading.wait_ms};
    }
  }
}

}  // namespace spillway::prefetch
