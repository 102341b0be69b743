#include "failure_injection.hpp"

#include "../failure.hpp"

namespace spillway::device::host {

void FailureInjection::arm(uint32_t at, uint64_t number) {
  std::lock_guard lock(mutex_);
  at_ = at;
  left_ = number;
  fired_ = false;
  armed_.store(true);
}

void FailureInjection::disarm() { armed_.store(false); }

bool FailureInjection::fired() const {
  std::lock_guard lock(mutex_);
  return fired_;
}

void FailureInjection::pass(FailurePoint point, const char* call) {
  passed_[static_cast<size_t>(point)].fetch_add(1, std::memory_order_relaxed);
  if (!armed_.load(std::memory_order_relaxed)) return;
  {
    std::lock_guard lock(mutex_);
    if (!armed_.load() || (at_ != kAnyFailurePoint && at_ != static_cast<uint32_t>(point)) || --left_ > 0) return;
    armed_.store(false);
    fired_ = true;
  }
  // As the real thing would fail: the caller cannot tell.
  const bool memory = point == FailurePoint::kAllocation || point == FailurePoint::kPinning;
  fail(memory ? SPILLWAY_STATUS_OUT_OF_MEMORY : SPILLWAY_STATUS_SYSTEM, call,
       "%s failed: a failure injected by injectFailure", call);
}

}  // namespace spillway::device::host
