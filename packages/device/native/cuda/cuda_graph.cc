#include "cuda_graph.hpp"

#include "cuda_device.hpp"

namespace spillway::device::cuda {

void CaptureRecord::Totals::count_copy(const CudaBuffer& to, const CudaBuffer& from, uint64_t bytes) {
  if (to.on_device() && from.on_device()) {
    device_to_device_bytes += bytes;
  } else if (to.on_device()) {
    auto& [tag_bytes, tag_copies] = to_device[to.tag()];
    tag_bytes += bytes;
    ++tag_copies;
  } else if (from.on_device()) {
    to_host_bytes += bytes;
    ++to_host_copies;
  } else {
    host_to_host_bytes += bytes;
  }
}

void CaptureRecord::Totals::add(const Totals& more) {
  for (const auto& [tag, counted] : more.to_device) {
    to_device[tag].first += counted.first;
    to_device[tag].second += counted.second;
  }
  to_host_bytes += more.to_host_bytes;
  to_host_copies += more.to_host_copies;
  device_to_device_bytes += more.device_to_device_bytes;
  host_to_host_bytes += more.host_to_host_bytes;
  launches += more.launches;
}

void CaptureRecord::Totals::add_to(Counters& counters) const {
  for (const auto& [tag, counted] : to_device) counters.count_to_device(tag, counted.first, counted.second);
  counters.device_to_host_bytes.fetch_add(to_host_bytes, std::memory_order_relaxed);
  counters.device_to_host_copies.fetch_add(to_host_copies, std::memory_order_relaxed);
  counters.device_to_device_bytes.fetch_add(device_to_device_bytes, std::memory_order_relaxed);
  counters.host_to_host_bytes.fetch_add(host_to_host_bytes, std::memory_order_relaxed);
  counters.launches.fetch_add(launches, std::memory_order_relaxed);
}

CudaGraph::CudaGraph(CudaDevice& device, GraphHandle graph, std::shared_ptr<CaptureRecord> record)
    : Graph(SPILLWAY_KIND_GRAPH, &device), record_(std::move(record)) {
  size_t count = 0;
  Result result = driver().cuGraphGetNodes(graph, nullptr, &count);
  const char* call = "cuGraphGetNodes";
  if (result == kSuccess) {
    call = "cuGraphInstantiateWithFlags";
    result = driver().cuGraphInstantiateWithFlags(&executable_, graph, 0);
  }
  driver().cuGraphDestroy(graph);
  device.check(result, call);
  node_count_ = static_cast<uint32_t>(count);
  replays_.assign(record_->streams.begin(), record_->streams.end());
}

CudaGraph::~CudaGraph() {
  static_cast<CudaDevice*>(device())->enter_to_free();
  if (executable_) driver().cuGraphExecDestroy(executable_);
}

}  // namespace spillway::device::cuda
