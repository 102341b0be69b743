// Page faults of kernels under check. Signals belong to the process: this is the one place of the addon with state of
// the process, set up once and never taken down, since somebody may have chained to it by then.
#pragma once

#include <csetjmp>
#include <cstdint>

namespace spillway::device::host {

/// What one thread wants to know of its own faults while it runs a kernel.
class FaultListener {
 public:
  virtual ~FaultListener() = default;
  /// In the signal handler: nothing but async-signal-safe calls. true: the access can be tried again. false: it cannot;
  /// the thread goes on at escape.
  virtual bool fault(uint8_t* address, bool write) = 0;
  sigjmp_buf escape;
};

/// Until it dies, faults of this thread go to the listener. Those of others go where they would have gone without it.
class FaultScope {
 public:
  explicit FaultScope(FaultListener& listener);
  FaultScope(const FaultScope&) = delete;
  FaultScope& operator=(const FaultScope&) = delete;
  ~FaultScope();
};

}  // namespace spillway::device::host
