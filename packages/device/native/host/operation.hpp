// One piece of a stream's work. Immutable once made: a graph runs the same operation again at every replay.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "../device.hpp"
#include "buffer.hpp"

namespace spillway::device::host {

class HostDevice;

/// Set once; a later record of an event makes a new one, so that a wait means the record made before it.
class Signal {
 public:
  void set() {
    done_.store(1, std::memory_order_release);
    done_.notify_all();
  }
  void wait() const { done_.wait(0, std::memory_order_acquire); }

 private:
  std::atomic<uint32_t> done_{0};
};

class Operation {
 public:
  virtual ~Operation() = default;
  /// On the stream's thread.
  virtual void run(HostDevice& device, uint32_t priority) const = 0;
  /// What it touches. Held until it is done.
  const std::vector<Ref<HostBuffer>>& buffers() const { return buffers_; }

 protected:
  std::vector<Ref<HostBuffer>> buffers_;
};

class CopyOperation : public Operation {
 public:
  CopyOperation(HostBuffer& to, uint64_t to_offset, HostBuffer& from, uint64_t from_offset, uint64_t bytes);
  void run(HostDevice& device, uint32_t priority) const override;

 private:
  uint64_t to_offset_;
  uint64_t from_offset_;
  uint64_t bytes_;
};

class FillOperation : public Operation {
 public:
  FillOperation(HostBuffer& to, uint64_t offset, uint64_t bytes, uint8_t value);
  void run(HostDevice& device, uint32_t priority) const override;

 private:
  uint64_t offset_;
  uint64_t bytes_;
  uint8_t value_;
};

class LaunchOperation : public Operation {
 public:
  LaunchOperation(const spillway_launch& launch, std::vector<Ref<HostBuffer>> buffers);
  void run(HostDevice& device, uint32_t priority) const override;

 private:
  struct Access {
    HostBuffer* buffer;  // one of buffers_
    uint64_t offset;
    uint64_t bytes;
    uint32_t mode;
  };
  const spillway_kernel* kernel_;
  // Host twins may read their arguments with any alignment up to that of max_align_t.
  std::vector<std::max_align_t> arguments_;
  uint32_t grid_[3];
  uint32_t block_[3];
  std::vector<Access> accesses_;
};

class SignalOperation : public Operation {
 public:
  explicit SignalOperation(std::shared_ptr<Signal> signal) : signal_(std::move(signal)) {}
  void run(HostDevice&, uint32_t) const override { signal_->set(); }

 private:
  std::shared_ptr<Signal> signal_;
};

class WaitOperation : public Operation {
 public:
  explicit WaitOperation(std::shared_ptr<Signal> signal) : signal_(std::move(signal)) {}
  void run(HostDevice&, uint32_t) const override { signal_->wait(); }

 private:
  std::shared_ptr<Signal> signal_;
};

class CallOperation : public Operation {
 public:
  explicit CallOperation(std::function<void()> call) : call_(std::move(call)) {}
  void run(HostDevice&, uint32_t) const override { call_(); }

 private:
  std::function<void()> call_;
};

}  // namespace spillway::device::host
