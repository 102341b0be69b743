// One piece of a stream's work. Immutable once enqueued: a graph runs the same operation again at every replay.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../device.hpp"
#include "buffer.hpp"
#include "check/vector_clock.hpp"

namespace spillway::device::host {

class HostDevice;

/// Set once; a later record of an event makes a new one, so that a wait means the record made before it.
class Signal {
 public:
  void set() {
    // Sequentially consistent: with a release, libstdc++ may look whether anybody waits before the store is seen, and
    // who begins to wait in between sleeps for ever. A test hung, once, on 16 processors.
    done_.store(1, std::memory_order_seq_cst);
    done_.notify_all();
  }
  bool is_set() const { return done_.load(std::memory_order_acquire) != 0; }
  void wait() const { done_.wait(0, std::memory_order_acquire); }

  /// For the order checker, which guards it: what is done once this is set.
  std::shared_ptr<const VectorClock> clock;

 private:
  std::atomic<uint32_t> done_{0};
};

/// One range that an operation touches. mode: SPILLWAY_ACCESS_*.
struct Access {
  HostBuffer* buffer;
  uint64_t offset;
  uint64_t bytes;
  uint32_t mode;
};

class Operation {
 public:
  virtual ~Operation() = default;
  /// On the stream's thread.
  virtual void run(HostDevice& device, uint32_t priority) const = 0;
  /// It is in a queue now, and will be run, or was: once for each time.
  virtual void enqueued() const {}
  /// What it touches. Held until it is done.
  const std::vector<Held<HostBuffer>>& buffers() const { return buffers_; }

  /// false: running it now would block until something else has run.
  virtual bool ready() const { return true; }
  /// More than 0: may be run in parts, other streams' work in between.
  virtual uint64_t divisible_bytes() const { return 0; }
  virtual void run_part(HostDevice&, uint32_t /*priority*/, uint64_t /*begin*/, uint64_t /*end*/) const {}

  // What the order checker asks.
  virtual const char* name() const { return ""; }
  virtual std::vector<Access> accesses() const { return {}; }
  /// Its accesses are the target and the source, whose bytes it only passes on.
  virtual bool copies() const { return false; }
  virtual Signal* sets() const { return nullptr; }
  virtual const Signal* waits_for() const { return nullptr; }
  /// Where it was enqueued, or recorded (0: not known), and on which stream. Set before that, when order is checked.
  uint64_t site = 0;
  std::string stream;

 protected:
  std::vector<Held<HostBuffer>> buffers_;
};

class CopyOperation : public Operation {
 public:
  CopyOperation(HostBuffer& to, uint64_t to_offset, HostBuffer& from, uint64_t from_offset, uint64_t bytes);
  void run(HostDevice& device, uint32_t priority) const override;
  uint64_t divisible_bytes() const override;
  void run_part(HostDevice& device, uint32_t priority, uint64_t begin, uint64_t end) const override;
  const char* name() const override { return "copy"; }
  std::vector<Access> accesses() const override;
  bool copies() const override { return true; }

 private:
  uint64_t to_offset_;
  uint64_t from_offset_;
  uint64_t bytes_;
};

class FillOperation : public Operation {
 public:
  FillOperation(HostBuffer& to, uint64_t offset, uint64_t bytes, uint8_t value);
  void run(HostDevice& device, uint32_t priority) const override;
  const char* name() const override { return "fill"; }
  std::vector<Access> accesses() const override;

 private:
  uint64_t offset_;
  uint64_t bytes_;
  uint8_t value_;
};

/// What fresh memory holds, in the order of the stream it is for. No access as far as order goes; holds no buffer, the
/// memory stays where it is until this is done.
class PoisonOperation : public Operation {
 public:
  PoisonOperation(uint8_t* data, uint64_t bytes) : data_(data), bytes_(bytes) {}
  void run(HostDevice& device, uint32_t priority) const override;

 private:
  uint8_t* data_;
  uint64_t bytes_;
};

class LaunchOperation : public Operation {
 public:
  LaunchOperation(const spillway_launch& launch, std::vector<Held<HostBuffer>> buffers);
  void run(HostDevice& device, uint32_t priority) const override;
  const char* name() const override { return kernel_->name ? kernel_->name : "kernel"; }
  std::vector<Access> accesses() const override { return accesses_; }

 private:
  const spillway_kernel* kernel_;
  // Host twins may read their arguments with any alignment up to that of max_align_t.
  std::vector<std::max_align_t> arguments_;
  uint32_t grid_[3];
  uint32_t block_[3];
  std::vector<Access> accesses_;  // of buffers_
};

class SignalOperation : public Operation {
 public:
  explicit SignalOperation(std::shared_ptr<Signal> signal) : signal_(std::move(signal)) {}
  void run(HostDevice&, uint32_t) const override { signal_->set(); }
  Signal* sets() const override { return signal_.get(); }

 private:
  std::shared_ptr<Signal> signal_;
};

class WaitOperation : public Operation {
 public:
  explicit WaitOperation(std::shared_ptr<Signal> signal) : signal_(std::move(signal)) {}
  void run(HostDevice&, uint32_t) const override { signal_->wait(); }
  bool ready() const override { return signal_->is_set(); }
  const Signal* waits_for() const override { return signal_.get(); }

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
