#pragma once

#include <atomic>

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
  /// The capture it was recorded in last; 0: none.
  uint64_t capture_id() const { return capture_id_.load(std::memory_order_relaxed); }
  void set_capture_id(uint64_t id) { capture_id_.store(id, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> capture_id_{0};
  EventHandle handle_ = nullptr;
};

}  // namespace spillway::device::cuda
