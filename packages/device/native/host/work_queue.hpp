// Does operations in the order they came. What a stream is made of; a graph has one for each further lane.
#pragma once

#include <memory>
#include <string>

#include "check/order_checker.hpp"
#include "operation.hpp"

namespace spillway::device::host {

class WorkQueue : public StreamProgress, public std::enable_shared_from_this<WorkQueue> {
 public:
  /// Takes the buffers of the operation into use; throws, and pushes nothing, when one has no memory behind it.
  /// Returns its position.
  uint64_t push(const std::shared_ptr<const Operation>& operation, const GraphLaunch& launch = {});
  /// For who holds the queue without keeping its stream: false, and nothing pushed, when it has ended. For operations
  /// without buffers.
  virtual bool push_unless_ended(std::shared_ptr<const Operation> operation) = 0;
  /// Somebody waits for everything pushed so far.
  virtual void demand() {}
  /// No more work will come; what was pushed is still done.
  virtual void close() = 0;

  bool passed(uint64_t position) noexcept override { return reached->load(std::memory_order_acquire) >= position; }
  void wait_until_passed(uint64_t position) override;

  /// Null when order is not checked.
  OrderChecker::Lane* lane() const { return lane_.get(); }

 protected:
  explicit WorkQueue(HostDevice& device);
  /// Returns its position among all that were pushed, from 1.
  virtual uint64_t insert(const std::shared_ptr<const Operation>& operation) = 0;

 private:
  // The checker outlives the queue's thread, which keeps the device.
  OrderChecker* const checker_;
  std::unique_ptr<OrderChecker::Lane> lane_;
};

/// Takes buffers into use, all or none, and gives them back when it dies.
class BufferUses {
 public:
  /// References or holds.
  template <typename Buffers>
  explicit BufferUses(const Buffers& buffers) {
    buffers_.reserve(buffers.size());
    for (const auto& buffer : buffers) begin(*buffer);
  }
  BufferUses(const BufferUses&) = delete;
  BufferUses& operator=(const BufferUses&) = delete;
  ~BufferUses();
  /// The uses stay; who runs the operation ends them.
  void keep() { buffers_.clear(); }

 private:
  void begin(HostBuffer& buffer);
  std::vector<HostBuffer*> buffers_;
};

/// Ends the uses that push took for an operation: it is done.
void finish(const Operation& operation);

/// Blocks until the queue has done everything pushed before. Never on a JavaScript thread.
void drain(WorkQueue& queue);

}  // namespace spillway::device::host
