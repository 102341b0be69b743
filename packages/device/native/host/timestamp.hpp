#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>

#include "operation.hpp"

namespace spillway::device::host {

/// When a stream reached it last.
class HostTimestamp final : public Timestamp {
 public:
  explicit HostTimestamp(Device* device) : Timestamp(SPILLWAY_KIND_TIMESTAMP, device) {}

  std::optional<double> milliseconds_since(Timestamp& earlier) override {
    auto& from = static_cast<HostTimestamp&>(earlier);
    const Reading begin = from.read();
    const Reading end = read();
    // Both, or the second alone, may have been reached again between the two readings.
    if (!begin.known || !end.known || from.read().count != begin.count) return std::nullopt;
    return std::chrono::duration<double, std::milli>(end.time - begin.time).count();
  }

  /// It was enqueued, to be reached once.
  void enqueued() {
    const std::lock_guard lock(mutex_);
    ++enqueued_;
  }
  void reached() {
    const std::lock_guard lock(mutex_);
    time_ = Clock::now();
    ++reached_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Reading {
    bool known;
    uint64_t count;
    Clock::time_point time;
  };
  Reading read() const {
    const std::lock_guard lock(mutex_);
    // A stream may reach it before enqueued() is called.
    return {enqueued_ > 0 && enqueued_ == reached_, enqueued_, time_};
  }

  mutable std::mutex mutex_;
  uint64_t enqueued_ = 0;
  uint64_t reached_ = 0;
  Clock::time_point time_;
};

class TimestampOperation : public Operation {
 public:
  explicit TimestampOperation(HostTimestamp& timestamp) : timestamp_(&timestamp) {}
  void run(HostDevice&, uint32_t) const override { timestamp_->reached(); }
  void enqueued() const override { timestamp_->enqueued(); }
  const char* name() const override { return "timestamp"; }

 private:
  Ref<HostTimestamp> timestamp_;
};

}  // namespace spillway::device::host
