#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "../device.hpp"
#include "../external_events.hpp"
#include "stream_queue.hpp"

namespace spillway::device::cuda {

/// What a capture will use and do at every replay, apart from what the driver records. Shared by its streams.
class CaptureRecord {
 public:
  struct Totals {
    std::map<std::string, std::pair<uint64_t, uint64_t>> to_device;  // by tag: bytes, copies
    uint64_t to_host_bytes = 0;
    uint64_t to_host_copies = 0;
    uint64_t device_to_device_bytes = 0;
    uint64_t host_to_host_bytes = 0;
    uint64_t launches = 0;
    void count_copy(const CudaBuffer& to, const CudaBuffer& from, uint64_t bytes);
    void add(const Totals& more);
    void add_to(Counters& counters) const;
  };
  explicit CaptureRecord(uint64_t driver_id) : id(driver_id) {}
  const uint64_t id;  // the driver's
  std::mutex mutex;   // guards the rest until the capture has ended; then nothing changes any more
  KeptObjects kept{KeptObjects::Purpose::kHeld};
  Totals totals;
  ExternalEvents external_events;
  std::set<ReplayCount> streams;  // whose work it is
};

class CudaGraph final : public Graph {
 public:
  /// Takes over the driver's graph.
  CudaGraph(CudaDevice& device, GraphHandle graph, std::shared_ptr<CaptureRecord> record);
  ~CudaGraph() override;
  uint32_t node_count() const override { return node_count_; }
  GraphExecutable executable() const { return executable_; }
  CaptureRecord& record() const { return *record_; }

 private:
  const std::shared_ptr<CaptureRecord> record_;
  GraphExecutable executable_ = nullptr;
  uint32_t node_count_ = 0;
};

}  // namespace spillway::device::cuda
