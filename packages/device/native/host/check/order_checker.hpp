// The stream-order checker. Every access must come after the accesses it conflicts with, through streams, events,
// graph edges and what the host waited for. Judged when work is enqueued, from the order the program asked for, never
// from the order things happened to run in: a missing wait is found in every run. Any thread.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "access_history.hpp"
#include "site_probe.hpp"

namespace spillway::device::host {

class HostBuffer;
class HostStream;
class Operation;

/// Of an operation of a graph: where, and on which stream, the graph was launched. Else empty.
struct GraphLaunch {
  uint64_t site = 0;
  std::string stream;
};

class OrderChecker {
 public:
  explicit OrderChecker(std::unique_ptr<SiteProbe> probe) : probe_(std::move(probe)) {}

  /// The order of one queue of work. The host is lane 0, whichever of its threads acts.
  class Lane {
   public:
    Lane(OrderChecker& checker, uint32_t id) : checker_(checker), id_(id) {}
    ~Lane();
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;

   private:
    friend class OrderChecker;
    OrderChecker& checker_;
    const uint32_t id_;
    VectorClock clock_;
  };
  std::unique_ptr<Lane> create_lane();

  /// A number for the place in the program that enqueues now; 0 when it is not known.
  uint64_t mark_site();
  /// insert: puts the operation into the lane's queue, in the same order as it is judged.
  void enqueued(Lane& lane, const Operation& operation, const GraphLaunch& launch, const std::function<void()>& insert);

  /// Everything enqueued to the lane so far.
  VectorClock reached(const Lane& lane) const;
  /// The host has waited for it.
  void host_joined(const VectorClock& clock);
  void host_joined_everything();
  /// Memory that is somebody else's from now on. stream: whose work uses it first, so that another's must come after
  /// this; null: nobody's, what used it before is done.
  void allocated(AccessHistory& history, uint64_t offset, uint64_t bytes, const HostStream* stream);
  /// mode: SPILLWAY_ACCESS_*.
  void host_access(HostBuffer& buffer, uint64_t offset, uint64_t bytes, uint32_t mode, const char* what);
  /// The host takes the memory behind addresses away: everything enqueued before that uses them must be known to be
  /// done.
  void unmapped(AccessHistory& addresses, uint64_t offset, uint64_t bytes, const std::string& buffer);

  void report(Violation violation);
  std::vector<Violation> take();
  /// A number for a buffer's or stream's name, from 1.
  uint64_t next_number(bool stream) { return ++(stream ? streams_ : buffers_); }

 private:
  void report_locked(Violation violation);
  void report_conflicts(const std::vector<Conflict>& conflicts, const std::string& buffer, uint64_t shift,
                        const std::shared_ptr<const OperationRecord>& later);
  void access(HostBuffer& buffer, uint64_t offset, uint64_t bytes, uint32_t mode, bool values, const Stamp& stamp,
              const VectorClock& clock);
  void pass_on_written(HostBuffer& to, uint64_t to_offset, HostBuffer& from, uint64_t from_offset, uint64_t bytes);
  Stamp host_stamp(const char* what, uint64_t site);

  // A program that does one thing wrong in a loop must not fill the memory.
  static constexpr size_t kMaximumPending = 1000;

  const std::unique_ptr<SiteProbe> probe_;
  std::atomic<uint64_t> buffers_{0};
  std::atomic<uint64_t> streams_{0};
  std::atomic<bool> pending_{false};
  mutable std::mutex mutex_;
  VectorClock host_clock_;
  VectorClock everything_;
  uint32_t lanes_ = 1;
  struct Retired {
    uint32_t id;
    uint64_t time;
  };
  std::vector<Retired> retired_;  // lanes to be used again once the host knows all they did
  std::vector<Violation> violations_;
};

}  // namespace spillway::device::host
