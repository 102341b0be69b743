#pragma once

#include <memory>

#include "../device.hpp"
#include "cuda_event.hpp"
#include "cuda_graph.hpp"
#include "stream_queue.hpp"

namespace spillway::device::cuda {

class CudaStream final : public Stream {
 public:
  CudaStream(CudaDevice& device, uint32_t priority);
  ~CudaStream() override;

  uint32_t priority() const override { return priority_; }
  bool capturing() const override;
  void synchronize() override;
  HostWait begin_host_wait() override { return {}; }
  void notify(std::function<void(spillway_status)> done) override;
  void record(Event& event) override;
  void wait(Event& event, bool external) override;
  void copy(Buffer& to, uint64_t to_offset, Buffer& from, uint64_t from_offset, uint64_t bytes) override;
  void fill(Buffer& to, uint64_t offset, uint64_t bytes, uint8_t value) override;
  void launch(const spillway_launch& launch) override;
  void begin_capture() override;
  Graph* end_capture() override;
  void replay(Graph& graph) override;

 private:
  CudaDevice& cuda() const;
  /// The record of the capture that this stream is part of; null: none. Throws when the capture is broken.
  std::shared_ptr<CaptureRecord> capture(const char* call) const;
  void refuse_in_capture(const char* call, const char* what) const;
  /// Counted now, or at every replay.
  void count(const std::shared_ptr<CaptureRecord>& record, const CaptureRecord::Totals& totals);
  template <typename T>
  void keep(const std::shared_ptr<CaptureRecord>& capture, T& object);

  const uint32_t priority_;
  const std::shared_ptr<StreamQueue> queue_;
  uint64_t capture_id_ = 0;  // of the capture this stream began
};

}  // namespace spillway::device::cuda
