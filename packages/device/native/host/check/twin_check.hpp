// Checks what a kernel declared against what its host twin touches.
//
// Buffers it did not declare are closed by page protection. Within the pages of those it did: bytes it did not declare
// to write are compared before and after; bytes it did not declare to read hold poison, and it runs a second time with
// other poison there and must give the same result.
#pragma once

#include <spillway/abi.h>

#include "fault_handler.hpp"
#include "guarded_memory.hpp"
#include "order_checker.hpp"

namespace spillway::device::host {

class TwinCheck {
 public:
  explicit TwinCheck(OrderChecker& checker) : checker_(checker) {}

  GuardedMemory& memory() { return memory_; }
  /// Runs the twin. On the stream's thread, which holds the execution turn.
  void run(const Operation& operation, const spillway_twin_context& context, spillway_host_twin twin,
           const void* arguments);

 private:
  class Run;
  OrderChecker& checker_;
  GuardedMemory memory_;
};

}  // namespace spillway::device::host
