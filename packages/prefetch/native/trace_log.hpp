// When work of streams was done, as the host saw it: what a trace of forwards is made of.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <spillway/abi.hpp>
#include <utility>
#include <vector>

namespace spillway::prefetch {

/// A point in a stream: everything enqueued before it was done at that time.
struct TraceMark {
  uint32_t kind;  // of the caller's choosing, as is the label
  uint32_t label;
  double ms;  // on a clock that only goes forward
};

/// Marks in the order in which they were done. Streams report from threads of the device, also after whoever enqueued
/// them is gone: each mark on its way keeps the log. What cannot be marked is left out: a trace breaks no forward.
class TraceLog : public std::enable_shared_from_this<TraceLog> {
 public:
  void mark(const spillway_api* api, spillway_stream* stream, uint32_t kind, uint32_t label) {
    auto pending = std::make_unique<Pending>(Pending{shared_from_this(), kind, label});
    spillway_error error{};
    error.struct_size = sizeof error;
    if (api->stream_notify(stream, &TraceLog::done, pending.get(), &error) == SPILLWAY_STATUS_OK) {
      static_cast<void>(pending.release());  // done()'s from here on
    }
  }

  /// Those done since the last call.
  std::vector<TraceMark> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(marks_, {});
  }

 private:
  struct Pending {
    std::shared_ptr<TraceLog> log;
    uint32_t kind;
    uint32_t label;
  };

  static void done(void* state, spillway_status status) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    const std::unique_ptr<Pending> pending(static_cast<Pending*>(state));
    if (status != SPILLWAY_STATUS_OK) return;
    const double ms = std::chrono::duration<double, std::milli>(now).count();
    try {
      const std::lock_guard lock(pending->log->mutex_);
      pending->log->marks_.push_back({pending->kind, pending->label, ms});
    } catch (const std::bad_alloc&) {
      // One mark less; no exception may pass through the device.
    }
  }

  std::mutex mutex_;
  std::vector<TraceMark> marks_;
};

}  // namespace spillway::prefetch
