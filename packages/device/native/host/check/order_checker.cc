#include "order_checker.hpp"

#include <algorithm>

#include "../buffer.hpp"
#include "../operation.hpp"
#include "../stream.hpp"

namespace spillway::device::host {

OrderChecker::Lane::~Lane() {
  std::lock_guard lock(checker_.mutex_);
  checker_.retired_.push_back({id_, clock_.of(id_)});
}

std::unique_ptr<OrderChecker::Lane> OrderChecker::create_lane() {
  uint32_t id = 0;
  uint64_t time = 0;
  {
    std::lock_guard lock(mutex_);
    // A lane that takes over another's count comes after all that one did: no order that was not there, once the host,
    // which everything comes after, knows of it.
    auto known = std::find_if(retired_.begin(), retired_.end(),
                              [&](const Retired& lane) { return host_clock_.of(lane.id) >= lane.time; });
    if (known == retired_.end()) {
      id = lanes_++;
    } else {
      id = known->id;
      time = known->time;
      retired_.erase(known);
    }
  }
  auto lane = std::make_unique<Lane>(*this, id);
  if (time > 0) lane->clock_.advance_to(id, time);
  return lane;
}

uint64_t OrderChecker::mark_site() { return probe_ ? probe_->mark(pending_.load(std::memory_order_relaxed)) : 0; }

void OrderChecker::enqueued(Lane& lane, const Operation& operation, const GraphLaunch& launch,
                            const std::function<void()>& insert) {
  std::lock_guard lock(mutex_);
  lane.clock_.join(host_clock_);
  if (const Signal* signal = operation.waits_for(); signal && signal->clock) lane.clock_.join(*signal->clock);
  lane.clock_.advance(lane.id_);
  if (Signal* signal = operation.sets()) signal->clock = std::make_shared<VectorClock>(lane.clock_);
  if (const std::vector<Access> accesses = operation.accesses(); !accesses.empty()) {
    auto record = std::make_shared<OperationRecord>(OperationRecord{
        operation.name(), launch.stream.empty() ? operation.stream : launch.stream, operation.site, launch.site});
    const Stamp stamp{lane.id_, lane.clock_.of(lane.id_), record};
    const bool copies = operation.copies();
    // All reads first: an operation's own writes are none that it must wait for.
    for (const Access& one : accesses) {
      if (one.mode & SPILLWAY_ACCESS_READ) {
        access(*one.buffer, one.offset, one.bytes, SPILLWAY_ACCESS_READ, !copies, stamp, lane.clock_);
      }
    }
    for (const Access& one : accesses) {
      if (one.mode & SPILLWAY_ACCESS_WRITE) {
        access(*one.buffer, one.offset, one.bytes, SPILLWAY_ACCESS_WRITE, false, stamp, lane.clock_);
      }
    }
    if (copies) {
      const Access& to = accesses[0];
      const Access& from = accesses[1];
      pass_on_written(*to.buffer, to.offset, *from.buffer, from.offset, to.bytes);
    }
  }
  everything_.join(lane.clock_);
  insert();
}

void OrderChecker::access(HostBuffer& buffer, uint64_t offset, uint64_t bytes, uint32_t mode, bool values,
                          const Stamp& stamp, const VectorClock& clock) {
  buffer.visit_histories(offset, bytes, [&](AccessHistory& history, uint64_t at, uint64_t length, uint64_t in_buffer) {
    std::vector<Conflict> conflicts;
    if (mode == SPILLWAY_ACCESS_READ) {
      history.read(at, length, stamp, clock, values, conflicts);
    } else {
      history.write(at, length, stamp, clock, conflicts);
    }
    report_conflicts(conflicts, buffer.label(), in_buffer - at, stamp.operation);
  });
  buffer.visit_addresses(offset, bytes, [&](AccessHistory& addresses, uint64_t at, uint64_t length, uint64_t) {
    std::vector<Conflict> none;  // memory was behind them when this was enqueued
    addresses.read(at, length, stamp, clock, false, none);
  });
}

void OrderChecker::pass_on_written(HostBuffer& to, uint64_t to_offset, HostBuffer& from, uint64_t from_offset,
                                   uint64_t bytes) {
  std::vector<AccessHistory::Piece> unwritten;  // by offset from the begin of the copy
  from.visit_histories(from_offset, bytes,
                       [&](AccessHistory& history, uint64_t at, uint64_t length, uint64_t in_buffer) {
                         for (const AccessHistory::Piece& piece : history.written(at, length)) {
                           if (!piece.written)
                             unwritten.push_back({piece.offset - at + in_buffer - from_offset, piece.bytes, false});
                         }
                       });
  for (const AccessHistory::Piece& piece : unwritten) {
    to.visit_histories(to_offset + piece.offset, piece.bytes,
                       [&](AccessHistory& history, uint64_t at, uint64_t length, uint64_t) {
                         history.set_written(at, length, false);
                       });
  }
}

VectorClock OrderChecker::reached(const Lane& lane) const {
  std::lock_guard lock(mutex_);
  return lane.clock_;
}

void OrderChecker::host_joined(const VectorClock& clock) {
  std::lock_guard lock(mutex_);
  host_clock_.join(clock);
}

void OrderChecker::host_joined_everything() {
  std::lock_guard lock(mutex_);
  host_clock_.join(everything_);
}

Stamp OrderChecker::host_stamp(const char* what, uint64_t site) {
  host_clock_.advance(0);
  return {0, host_clock_.of(0), std::make_shared<OperationRecord>(OperationRecord{what, "host", site, 0})};
}

void OrderChecker::allocated(AccessHistory& history, uint64_t offset, uint64_t bytes, const HostStream* stream) {
  const uint64_t site = mark_site();
  std::lock_guard lock(mutex_);
  Stamp stamp{};
  if (stream) {
    Lane& lane = *stream->lane();
    lane.clock_.join(host_clock_);
    lane.clock_.advance(lane.id_);
    everything_.join(lane.clock_);
    stamp = {lane.id_, lane.clock_.of(lane.id_),
             std::make_shared<OperationRecord>(OperationRecord{"allocation", stream->label(), site, 0})};
  }
  history.restart(offset, bytes, stamp);
}

void OrderChecker::host_access(HostBuffer& buffer, uint64_t offset, uint64_t bytes, uint32_t mode, const char* what) {
  const uint64_t site = mark_site();
  std::lock_guard lock(mutex_);
  access(buffer, offset, bytes, mode, false, host_stamp(what, site), host_clock_);
}

void OrderChecker::unmapped(AccessHistory& addresses, uint64_t offset, uint64_t bytes, const std::string& buffer) {
  const uint64_t site = mark_site();
  std::lock_guard lock(mutex_);
  const Stamp stamp = host_stamp("unmap", site);
  std::vector<Conflict> conflicts;
  addresses.write(offset, bytes, stamp, host_clock_, conflicts);
  for (Conflict& conflict : conflicts) conflict.kind = ViolationKind::kEarlyFree;
  report_conflicts(conflicts, buffer, 0, stamp.operation);
}

void OrderChecker::report_conflicts(const std::vector<Conflict>& conflicts, const std::string& buffer, uint64_t shift,
                                    const std::shared_ptr<const OperationRecord>& later) {
  for (const Conflict& conflict : conflicts) {
    report_locked({conflict.kind, buffer, conflict.offset + shift, conflict.bytes, conflict.earlier, later});
  }
}

void OrderChecker::report(Violation violation) {
  std::lock_guard lock(mutex_);
  report_locked(std::move(violation));
}

void OrderChecker::report_locked(Violation violation) {
  if (violations_.size() < kMaximumPending) violations_.push_back(std::move(violation));
  pending_.store(true, std::memory_order_relaxed);
}

std::vector<Violation> OrderChecker::take() {
  std::lock_guard lock(mutex_);
  pending_.store(false, std::memory_order_relaxed);
  return std::exchange(violations_, {});
}

}  // namespace spillway::device::host
