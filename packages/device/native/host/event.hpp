#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "../device.hpp"
#include "operation.hpp"

namespace spillway::device::host {

class Capture;

/// The record made last: a signal (done by a stream), or a set of nodes (inside a capture).
class HostEvent final : public Event {
 public:
  explicit HostEvent(Device* device) : Event(SPILLWAY_KIND_EVENT, device) {}

  struct CapturedRecord {
    std::weak_ptr<Capture> capture;
    std::vector<uint32_t> nodes;
  };
  struct Record {
    std::shared_ptr<Signal> signal;  // null: never recorded, or recorded in a capture
    std::shared_ptr<const CapturedRecord> captured;
  };

  Record last() const {
    std::lock_guard lock(mutex_);
    return record_;
  }
  void set(Record record) {
    std::lock_guard lock(mutex_);
    record_ = std::move(record);
  }

 private:
  mutable std::mutex mutex_;
  Record record_;
};

}  // namespace spillway::device::host
