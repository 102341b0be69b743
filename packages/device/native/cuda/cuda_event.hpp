#pragma once

#include "../device.hpp"
#include "cuda_device.hpp"

namespace spillway::device::cuda {

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(CudaDevice& device) : Event(SPILLWAY_KIND_EVENT, &device) {
    constexpr uint32_t kDisableTiming = 2;
    device.check(driver().cuEventCreate(&handle_, kDisableTiming), "cuEventCreate");
  }
  /// The driver keeps what enqueued waits need.
  ~CudaEvent() override {
    if (!handle_) return;
    static_cast<CudaDevice*>(device())->enter_to_free();
    driver().cuEventDestroy(handle_);
  }
  EventHandle handle() const { return handle_; }

 private:
  EventHandle handle_ = nullptr;
};

}  // namespace spillway::device::cuda
