#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "capture.hpp"
#include "work_queue.hpp"

namespace spillway::device::host {

/// A FIFO thread. Any thread may enqueue.
class HostStream final : public Stream {
 public:
  HostStream(HostDevice& device, uint32_t priority);
  ~HostStream() override;

  StreamId id() const override { return queue_->stream_id; }
  uint32_t priority() const override { return priority_; }
  bool capturing() const override;
  void synchronize() override;
  HostWait begin_host_wait() override;
  void notify(std::function<void(spillway_status)> done) override;
  void record(Event& event, bool external) override;
  void record(Timestamp& timestamp) override;
  void wait(Event& event, bool external) override;
  void copy(const std::vector<Copy>& copies) override;
  void fill(Buffer& to, uint64_t offset, uint64_t bytes, uint8_t value) override;
  void launch(const spillway_launch& launch) override;
  void begin_capture() override;
  Graph* end_capture() override;
  void replay(Graph& graph) override;

  const std::string& label() const { return label_; }
  /// Fresh memory that work of this stream, enqueued before, may still use.
  void poison(uint8_t* data, uint64_t bytes, StreamUses& uses);
  OrderChecker::Lane* lane() const { return queue_->lane(); }
  /// For the capture, when it ends.
  void leave_capture();

 private:
  struct Joined {
    std::shared_ptr<Capture> capture;  // null: not capturing
    uint32_t lane = 0;
  };
  Joined joined() const;
  void enqueue(const char* call, const std::shared_ptr<Operation>& operation);
  HostDevice& host() const;
  void refuse_in_capture(const char* call, const char* what) const;

  const uint32_t priority_;
  std::string label_;  // in reports of the checkers
  std::shared_ptr<WorkQueue> queue_;
  mutable std::mutex mutex_;
  Joined joined_;
};

}  // namespace spillway::device::host
