#include "object.hpp"

#include "device.hpp"

namespace spillway::device {

Object::Object(uint32_t kind, Device* device) : kind_(kind), device_(device) {
  if (device_) {
    device_->retain();
    device_->live_objects[kind_].fetch_add(1, std::memory_order_relaxed);
  }
}

Object::~Object() {
  if (device_) {
    device_->live_objects[kind_].fetch_sub(1, std::memory_order_relaxed);
    device_->release();
  }
}

// Not kept in device_: while the base of a device is made, it is no device yet.
Device* Object::device() { return device_ ? device_ : static_cast<Device*>(this); }
const Device* Object::device() const { return device_ ? device_ : static_cast<const Device*>(this); }

Device::Device(uint64_t limit_bytes) : Object(SPILLWAY_KIND_DEVICE, nullptr), budget_(limit_bytes) {}

}  // namespace spillway::device
