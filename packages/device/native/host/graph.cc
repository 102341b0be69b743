#include "graph.hpp"

#include <set>

#include "../failure.hpp"
#include "host_device.hpp"

namespace spillway::device::host {

struct HostGraph::Replay {
  Replay(size_t nodes, size_t lanes, const std::vector<std::shared_ptr<Signal>>& external)
      : done(nodes), finished(lanes), external_signals(external) {}
  std::vector<Signal> done;
  std::vector<Signal> finished;                                  // by lane; lane 0's is not used
  const std::vector<std::shared_ptr<Signal>>& external_signals;  // by node; null where there is none
};

class HostGraph::LaneOperation : public Operation {
 public:
  LaneOperation(const HostGraph& graph, uint32_t lane, std::shared_ptr<Replay> replay)
      : graph_(graph), lane_(lane), replay_(std::move(replay)) {}
  void run(HostDevice& device, uint32_t priority) const override {
    graph_.run_lane(device, priority, lane_, *replay_);
    replay_->finished[lane_].set();
  }

 private:
  const HostGraph& graph_;  // outlives its use: HostGraph::run waits for `finished` before it returns
  const uint32_t lane_;
  // Shared: who waits for a signal may go on, and away, while set() is still inside it.
  std::shared_ptr<Replay> replay_;
};

HostGraph::HostGraph(HostDevice& device, std::vector<GraphNode> nodes, uint32_t lane_count)
    : Graph(SPILLWAY_KIND_GRAPH, &device), nodes_(std::move(nodes)), lanes_(lane_count) {
  std::set<HostBuffer*> seen;
  for (uint32_t i = 0; i < nodes_.size(); ++i) {
    lanes_[nodes_[i].lane].push_back(i);
    if (!nodes_[i].operation) continue;
    for (const Ref<HostBuffer>& buffer : nodes_[i].operation->buffers()) {
      if (seen.insert(buffer.get()).second) buffers_.push_back(buffer);
    }
  }
  for (uint32_t lane = 1; lane < lane_count; ++lane) {
    queues_.push_back(WorkQueue::start(device, SPILLWAY_PRIORITY_NORMAL));
  }
}

HostGraph::~HostGraph() {
  for (const std::shared_ptr<WorkQueue>& queue : queues_) queue->close();
}

std::vector<std::shared_ptr<Signal>> HostGraph::external_signals() const {
  std::vector<std::shared_ptr<Signal>> signals(nodes_.size());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i].external_event) continue;
    HostEvent::Record record = nodes_[i].external_event->last();
    if (record.captured) {
      fail(SPILLWAY_STATUS_CAPTURE, "graph_launch",
           "the graph waits for an event that was recorded in a capture since; record it outside of captures");
    }
    signals[i] = record.signal;
  }
  return signals;
}

void HostGraph::run(HostDevice& device, uint32_t priority, const std::vector<std::shared_ptr<Signal>>& external) {
  std::lock_guard lock(running_);
  auto replay = std::make_shared<Replay>(nodes_.size(), lanes_.size(), external);
  for (uint32_t lane = 1; lane < lanes_.size(); ++lane) {
    queues_[lane - 1]->push(std::make_shared<LaneOperation>(*this, lane, replay));
  }
  run_lane(device, priority, 0, *replay);
  for (uint32_t lane = 1; lane < lanes_.size(); ++lane) replay->finished[lane].wait();
  device.counters().graph_launches.fetch_add(1, std::memory_order_relaxed);
}

void HostGraph::run_lane(HostDevice& device, uint32_t priority, uint32_t lane, Replay& replay) const {
  for (uint32_t index : lanes_[lane]) {
    const GraphNode& node = nodes_[index];
    for (uint32_t dependency : node.dependencies) replay.done[dependency].wait();
    if (node.operation) {
      node.operation->run(device, priority);
    } else if (replay.external_signals[index]) {
      replay.external_signals[index]->wait();
    }
    replay.done[index].set();
  }
}

GraphOperation::GraphOperation(HostGraph& graph) : graph_(&graph), external_signals_(graph.external_signals()) {
  buffers_ = graph.buffers();
}

void GraphOperation::run(HostDevice& device, uint32_t priority) const {
  graph_->run(device, priority, external_signals_);
}

}  // namespace spillway::device::host
