#pragma once

#include <optional>

#include "cuda_device.hpp"

namespace spillway::device::cuda {

/// An event of the driver's that takes the time.
class CudaTimestamp final : public Timestamp {
 public:
  explicit CudaTimestamp(CudaDevice& device) : Timestamp(SPILLWAY_KIND_TIMESTAMP, &device) {
    constexpr uint32_t kTimed = 0;
    const RelaxedCapture relaxed;
    device.check(driver().cuEventCreate(&handle_, kTimed), "cuEventCreate");
  }
  /// The driver keeps what enqueued records need, a capture's record keeps the object.
  ~CudaTimestamp() override {
    if (!handle_) return;
    static_cast<CudaDevice*>(device())->enter_to_free();
    driver().cuEventDestroy(handle_);
  }

  std::optional<double> milliseconds_since(Timestamp& earlier) override {
    auto& device = *static_cast<CudaDevice*>(this->device());
    device.enter("timestamp_elapsed");
    const RelaxedCapture relaxed;
    float ms = 0;
    const Result result = driver().cuEventElapsedTime(&ms, static_cast<CudaTimestamp&>(earlier).handle_, handle_);
    // Not reached yet, and never recorded: captured, and not replayed so far.
    if (result == kNotReady || result == kInvalidHandle) return std::nullopt;
    device.check(result, "cuEventElapsedTime");
    return ms;
  }

  EventHandle handle() const { return handle_; }

 private:
  EventHandle handle_ = nullptr;
};

}  // namespace spillway::device::cuda
