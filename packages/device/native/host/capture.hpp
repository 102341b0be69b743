// What a stream records between begin_capture and end_capture, its own work and that of the streams that join it.
// The rules are those of CUDA stream capture: a stream joins by waiting for an event recorded in the capture, and its
// last work must be waited for, directly or not, by the stream that began it.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "../external_events.hpp"
#include "event.hpp"
#include "operation.hpp"

namespace spillway::device::host {

class HostDevice;
class HostStream;

struct GraphNode {
  std::shared_ptr<const Operation> operation;  // null: an external wait or record
  Ref<HostEvent> external_event;
  ExternalEvents::Use external_use;      // of external_event
  uint32_t lane;                         // which stream; lane 0 began the capture
  std::vector<uint32_t> dependencies;    // nodes of other lanes
  std::vector<Ref<HostBuffer>> buffers;  // of the operation, which only holds them
};

class Capture : public std::enable_shared_from_this<Capture> {
 public:
  Capture(HostDevice& device, HostStream& origin);

  void add(uint32_t lane, std::shared_ptr<const Operation> operation);
  /// Throws CAPTURE.
  void add_external(uint32_t lane, HostEvent& event, ExternalEvents::Use use);
  /// What an event recorded in this lane now stands for.
  std::shared_ptr<const HostEvent::CapturedRecord> record(uint32_t lane);
  void wait(uint32_t lane, const HostEvent::CapturedRecord& record);
  /// A new lane for a stream that waits for the record.
  uint32_t join(HostStream& stream, const HostEvent::CapturedRecord& record);
  struct Recording {
    std::vector<GraphNode> nodes;
    uint32_t lanes;
    std::vector<ReplayCount> replays;  // of the streams whose work it is
  };
  /// Ends the capture for every stream in it. Throws when a stream was not joined back.
  Recording finish();
  /// The stream that began it.
  bool began(const HostStream& stream) const { return lanes_.front().stream == &stream; }
  /// A stream whose last handle goes away takes no further part.
  void forget(const HostStream& stream);

 private:
  struct Lane {
    HostStream* stream;
    int64_t tail = -1;
    std::vector<uint32_t> pending;  // dependencies of the lane's next node
    ReplayCount replays;
  };
  std::vector<uint32_t> frontier(const Lane& lane) const;
  void check_joined() const;
  void report_unjoined(size_t node) const;

  HostDevice& device_;  // kept by its streams
  mutable std::mutex mutex_;
  std::vector<Lane> lanes_;
  std::vector<GraphNode> nodes_;
  ExternalEvents external_events_;
};

}  // namespace spillway::device::host
