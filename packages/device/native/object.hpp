// Reference-counted base of every handle the ABI hands out.
#pragma once

#include <spillway/abi.h>

#include <atomic>
#include <cstdint>
#include <utility>

namespace spillway::device {

class Device;

/// An intrusive reference. Any thread.
template <typename T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* object) : object_(object) {
    if (object_) object_->retain();
  }
  /// Takes over the reference a new object is born with.
  static Ref adopt(T* object) {
    Ref ref;
    ref.object_ = object;
    return ref;
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_) object_->release();
  }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }
  /// Gives the reference to the caller.
  T* leave() { return std::exchange(object_, nullptr); }

 private:
  T* object_ = nullptr;
};

/// Born with one reference. Every object but a device keeps its device; the device counts live objects by kind.
class Object {
 public:
  Object(uint32_t kind, Device* device);
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  void retain() { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  uint32_t kind() const { return kind_; }
  /// The device itself for a device.
  Device* device();
  const Device* device() const;

 protected:
  virtual ~Object();

 private:
  std::atomic<uint64_t> references_{1};
  const uint32_t kind_;
  Device* const device_;  // null in a device
};

}  // namespace spillway::device
