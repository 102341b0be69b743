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
  HostGraph(HostDevice& device, Capture::Recording recording);
  ~HostGraph() override;

  uint32_t node_count() const override { return static_cast<uint32_t>(nodes_.size()); }
  /// Enqueues every node, with the order of the recording, after the replays enqueued before. launch: for the
  /// order checker.
  void replay(WorkQueue& stream, const GraphLaunch& launch);

 private:
  class EndOperation;
  std::vector<std::shared_ptr<Signal>> external_signals() const;

  std::vector<GraphNode> nodes_;
  std::vector<bool> waited_for_;                    // by node: another lane has a node that depends on it
  std::vector<Ref<HostBuffer>> buffers_;            // of every node, once
  std::vector<std::shared_ptr<WorkQueue>> queues_;  // of lanes 1 …
  std::mutex mutex_;
  std::shared_ptr<Signal> last_replay_;  // set when it is done
};

}  // namespace spillway::device::host
