// Does operations in the order they came. What a stream is made of; a graph has one for each further lane.
#pragma once

#include <memory>
#include <string>

#include "check/order_checker.hpp"
#include "operation.hpp"

namespace spillway::device::host {

class WorkQueue {
 public:
  virtual ~WorkQueue() = default;

  /// Takes the buffers of the operation into use; throws, and pushes nothing, when one has no memory behind it.
  void push(const std::shared_ptr<const Operation>& operation, const GraphLaunch& launch = {});
  /// For who holds the queue without keeping its stream: false, and nothing pushed, when it has ended. For operations
  /// without buffers.
  virtual bool push_unless_ended(std::shared_ptr<const Operation> operation) = 0;
  /// Somebody waits for everything pushed so far.
  virtual void demand() {}
  /// No more work will come; what was pushed is still done.
  virtual void close() = 0;

  /// Null when order is not checked.
  OrderChecker::Lane* lane() const { return lane_.get(); }

 protected:
  explicit WorkQueue(HostDevice& device);
  virtual void insert(const std::shared_ptr<const Operation>& operation) = 0;

 private:
  // The checker outlives the queue's thread, which keeps the device.
  OrderChecker* const checker_;
  std::unique_ptr<OrderChecker::Lane> lane_;
};

/// Takes buffers into use, all or none, and gives them back when it dies.
class BufferUses {
 public:
  explicit BufferUses(const std::vector<Ref<HostBuffer>>& buffers);
  BufferUses(const BufferUses&) = delete;
  BufferUses& operator=(const BufferUses&) = delete;
  ~BufferUses();
  /// The uses stay; who runs the operation ends them.
  void keep() { used_ = 0; }

 private:
  const std::vector<Ref<HostBuffer>>& buffers_;
  size_t used_ = 0;
};

/// Ends the uses that push took for an operation: it is done.
void finish(const Operation& operation);

/// Blocks until the queue has done everything pushed before. Never on a JavaScript thread.
void drain(WorkQueue& queue);

}  // namespace spillway::device::host
