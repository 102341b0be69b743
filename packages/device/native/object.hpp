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

/// Holds an object without referring to it, for work that was enqueued. Made while somebody refers to it.
template <typename T>
class Held {
 public:
  Held() = default;
  explicit Held(T* object) : object_(object) {
    if (object_) object_->hold();
  }
  Held(const Held& other) : Held(other.object_) {}
  Held(Held&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Held& operator=(Held other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Held() {
    if (object_) object_->let_go();
  }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }

 private:
  T* object_ = nullptr;
};

/// Born with one reference. Every object but a device keeps its device; the device counts live objects by kind.
///
/// Who may still use an object refers to it; work that was enqueued only holds it: what the object owns is given back
/// when the last reference goes (retire), the object itself when nothing holds it either.
class Object {
 public:
  Object(uint32_t kind, Device* device);
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  void retain() { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    retire();
    let_go();
  }
  void hold() { holds_.fetch_add(1, std::memory_order_relaxed); }
  void let_go() {
    if (holds_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  uint32_t kind() const { return kind_; }
  /// The device itself for a device.
  Device* device();
  const Device* device() const;

 protected:
  virtual ~Object();
  /// Once, when the last reference has gone.
  virtual void retire() noexcept {}

 private:
  std::atomic<uint64_t> references_{1};
  std::atomic<uint64_t> holds_{1};  // one is that of all references together
  const uint32_t kind_;
  Device* const device_;  // null in a device
};

}  // namespace spillway::device
