#pragma once

#include <memory>

#include "../device.hpp"
#include "cuda_event.hpp"
#include "cuda_graph.hpp"
#include "cuda_kernel.hpp"
#include "stream_queue.hpp"
#include "stream_work.hpp"

namespace spillway::device::cuda {

class CudaStream final : public Stream {
 public:
  CudaStream(CudaDevice& device, uint32_t priority);
  /// Over a stream of somebody else's, who keeps it until this is gone and its work done. Throws WRONG_DEVICE.
  CudaStream(CudaDevice& device, StreamHandle borrowed);
  ~CudaStream() override;

  StreamId id() const override { return queue_->stream_id; }
  uint32_t priority() const override { return priority_; }
  bool capturing() const override;
  void synchronize() override;
  HostWait begin_host_wait() override { return {}; }
  void notify(std::function<void(spillway_status)> done) override;
  void record(Event& event, bool external) override;
  void record(Timestamp& timestamp) override;
  void wait(Event& event, bool external) override;
  void copy(const std::vector<Copy>& copies) override;
  void fill(Buffer& to, uint64_t offset, uint64_t bytes, uint8_t value) override;
  void launch(const spillway_launch& launch) override;
  /// A kernel of an image that the program brought: launch.kernel is not read.
  void launch(CudaKernel& kernel, const spillway_launch& launch);
  /// As of the ABI.
  void enqueue(const spillway_access* accesses, uint32_t access_count, spillway_cuda_work work, void* state);
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
  /// Work that is enqueued next, captured or not. Throws when the capture is broken.
  StreamWork begin(const char* call);
  void copy_batch(const std::vector<Copy>& copies);
  void launch_function(FunctionHandle function, const spillway_launch& launch, bool starts_early,
                       const StreamWork& work);

  const uint32_t priority_;
  const std::shared_ptr<StreamQueue> queue_;
  uint64_t capture_id_ = 0;  // of the capture this stream began
};

}  // namespace spillway::device::cuda
