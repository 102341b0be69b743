#include "object.hpp"

#include "device.hpp"

namespace spillway::device {

Object::Object(uint32_t kind, Device* device) : kind_(kind), device_(device ? device : static_cast<Device*>(this)) {
  if (kind_ != SPILLWAY_KIND_DEVICE) {
    device_->retain();
    device_->live_objects[kind_].fetch_add(1, std::memory_order_relaxed);
  }
}

Object::~Object() {
  if (kind_ != SPILLWAY_KIND_DEVICE) {
    device_->live_objects[kind_].fetch_sub(1, std::memory_order_relaxed);
    device_->release();
  }
}

Device::Device(uint64_t limit_bytes) : Object(SPILLWAY_KIND_DEVICE, nullptr), budget_(limit_bytes) {}

}  // namespace spillway::device
