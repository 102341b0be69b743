#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "capture.hpp"
#include "work_queue.hpp"

namespace spillway::device::host {

/// Recorded work. Lane 0 runs on the stream it is launched on, each further lane on a queue of the graph's own.
class HostGraph final : public Graph {
 public:
  HostGraph(HostDevice& device, std::vector<GraphNode> nodes, uint32_t lane_count);
  ~HostGraph() override;

  uint32_t node_count() const override { return static_cast<uint32_t>(nodes_.size()); }
  /// Every buffer of every node, once.
  const std::vector<Ref<HostBuffer>>& buffers() const { return buffers_; }
  /// The records that its external waits mean when launched now.
  std::vector<std::shared_ptr<Signal>> external_signals() const;
  /// On the launching stream's thread; returns when all lanes are done.
  void run(HostDevice& device, uint32_t priority, const std::vector<std::shared_ptr<Signal>>& external_signals);

 private:
  struct Replay;
  class LaneOperation;
  void run_lane(HostDevice& device, uint32_t priority, uint32_t lane, Replay& replay) const;

  std::vector<GraphNode> nodes_;
  std::vector<std::vector<uint32_t>> lanes_;  // node indices in order
  std::vector<Ref<HostBuffer>> buffers_;
  std::vector<std::shared_ptr<WorkQueue>> queues_;  // of lanes 1 …
  std::mutex running_;                              // replays of one graph run one after another
};

class GraphOperation : public Operation {
 public:
  explicit GraphOperation(HostGraph& graph);
  void run(HostDevice& device, uint32_t priority) const override;

 private:
  Ref<HostGraph> graph_;
  std::vector<std::shared_ptr<Signal>> external_signals_;
};

}  // namespace spillway::device::host
