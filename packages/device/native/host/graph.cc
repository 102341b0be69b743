#include "graph.hpp"

#include <set>

#include "../failure.hpp"
#include "host_device.hpp"

namespace spillway::device::host {

/// The last of a replay. Keeps the graph, and with it its queues, until then.
class HostGraph::EndOperation : public Operation {
 public:
  explicit EndOperation(HostGraph& graph) : graph_(&graph) {}
  void run(HostDevice&, uint32_t) const override {}

 private:
  Ref<HostGraph> graph_;
};

HostGraph::HostGraph(HostDevice& device, Capture::Recording recording)
    : Graph(SPILLWAY_KIND_GRAPH, &device), nodes_(std::move(recording.nodes)), waited_for_(nodes_.size(), false) {
  replays_ = std::move(recording.replays);
  std::set<HostBuffer*> seen;
  for (GraphNode& node : nodes_) {
    for (uint32_t dependency : node.dependencies) waited_for_[dependency] = true;
    for (Ref<HostBuffer>& buffer : node.buffers) {
      if (seen.insert(buffer.get()).second) buffers_.push_back(std::move(buffer));
    }
    node.buffers = {};
  }
  for (uint32_t lane = 1; lane < recording.lanes; ++lane) {
    queues_.push_back(device.create_queue(SPILLWAY_PRIORITY_NORMAL));
  }
}

HostGraph::~HostGraph() {
  for (const std::shared_ptr<WorkQueue>& queue : queues_) queue->close();
}

// The records that its external waits mean when launched now.
std::vector<std::shared_ptr<Signal>> HostGraph::external_signals() const {
  std::vector<std::shared_ptr<Signal>> signals(nodes_.size());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i].external_event || nodes_[i].external_use == ExternalEvents::Use::kRecord) continue;
    HostEvent::Record record = nodes_[i].external_event->last();
    if (record.captured) {
      fail(SPILLWAY_STATUS_CAPTURE, "graph_launch",
           "the graph waits for an event that was recorded in a capture since; record it outside of captures");
    }
    signals[i] = record.signal;
  }
  return signals;
}

void HostGraph::replay(WorkQueue& stream, const GraphLaunch& launch) {
  const std::vector<std::shared_ptr<Signal>> external = external_signals();
  // Nothing is enqueued when a buffer has no memory behind it: what could fail half-way has not begun.
  const BufferUses uses(buffers_);
  std::lock_guard lock(mutex_);
  auto queue_of = [&](uint32_t lane) -> WorkQueue& { return lane == 0 ? stream : *queues_[lane - 1]; };
  auto signal = [&](WorkQueue& queue) {
    auto done = std::make_shared<Signal>();
    queue.push(std::make_shared<SignalOperation>(done));
    return done;
  };
  auto wait = [&](WorkQueue& queue, const std::shared_ptr<Signal>& for_signal) {
    queue.push(std::make_shared<WaitOperation>(for_signal));
  };
  if (last_replay_) wait(stream, last_replay_);
  if (!queues_.empty()) {
    const std::shared_ptr<Signal> begun = signal(stream);
    for (const std::shared_ptr<WorkQueue>& queue : queues_) wait(*queue, begun);
  }
  std::vector<std::shared_ptr<Signal>> done(nodes_.size());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const GraphNode& node = nodes_[i];
    WorkQueue& queue = queue_of(node.lane);
    for (uint32_t dependency : node.dependencies) wait(queue, done[dependency]);
    if (node.operation) {
      queue.push(node.operation, launch);
    } else if (node.external_use == ExternalEvents::Use::kRecord) {
      node.external_event->set({signal(queue), nullptr});
    } else if (external[i]) {
      wait(queue, external[i]);
    }
    if (waited_for_[i]) done[i] = signal(queue);
  }
  for (const std::shared_ptr<WorkQueue>& queue : queues_) wait(stream, signal(*queue));
  stream.push(std::make_shared<EndOperation>(*this));
  last_replay_ = signal(stream);
}

}  // namespace spillway::device::host
