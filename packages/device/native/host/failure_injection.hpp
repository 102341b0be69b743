// Makes the k-th of something fail, so that tests can ask what is left behind. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

namespace spillway::device::host {

enum class FailurePoint : uint32_t {
  kAllocation,
  kCopy,
  kLaunch,
  kEvent,
  kMapping,
  kStream,
  kCapture,
  kPinning,
  kCount
};
inline constexpr uint32_t kAnyFailurePoint = static_cast<uint32_t>(FailurePoint::kCount);

class FailureInjection {
 public:
  /// The number-th passing (from 1) from now on of a point of this kind fails, once. at: a FailurePoint, or any.
  void arm(uint32_t at, uint64_t number);
  void disarm();
  bool fired() const;
  uint64_t passed(FailurePoint point) const { return passed_[static_cast<size_t>(point)].load(); }

  /// Called where the thing can fail for real, before anything has changed. Throws StatusError when it is its turn.
  void pass(FailurePoint point, const char* call);

 private:
  std::array<std::atomic<uint64_t>, kAnyFailurePoint> passed_{};
  std::atomic<bool> armed_{false};
  mutable std::mutex mutex_;
  uint32_t at_ = 0;
  uint64_t left_ = 0;
  bool fired_ = false;
};

}  // namespace spillway::device::host
