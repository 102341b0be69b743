// Header-only RAII over abi.h, for use inside one addon. Nothing here may cross an addon boundary: the compiler of the
// other addon may lay these types out differently.
#pragma once

#include <spillway/abi.h>

#include <cstdio>
#include <exception>
#include <string>
#include <utility>

namespace spillway {

/// The name JavaScript sees for a status.
inline const char* status_code(spillway_status status) {
  switch (status) {
    case SPILLWAY_STATUS_OK:
      return "SPILLWAY_OK";
    case SPILLWAY_STATUS_INVALID_ARGUMENT:
      return "SPILLWAY_INVALID_ARGUMENT";
    case SPILLWAY_STATUS_OUT_OF_MEMORY:
      return "SPILLWAY_OUT_OF_MEMORY";
    case SPILLWAY_STATUS_NOT_SUPPORTED:
      return "SPILLWAY_NOT_SUPPORTED";
    case SPILLWAY_STATUS_WRONG_DEVICE:
      return "SPILLWAY_WRONG_DEVICE";
    case SPILLWAY_STATUS_CAPTURE:
      return "SPILLWAY_CAPTURE";
    case SPILLWAY_STATUS_DEVICE_LOST:
      return "SPILLWAY_DEVICE_LOST";
    case SPILLWAY_STATUS_SYSTEM:
      return "SPILLWAY_SYSTEM";
    case SPILLWAY_STATUS_NO_KERNELS:
      return "SPILLWAY_NO_KERNELS";
    case SPILLWAY_STATUS_CLOSED:
      return "SPILLWAY_DISPOSED";
    default:
      return "SPILLWAY_INTERNAL";
  }
}

inline spillway_error empty_error() {
  spillway_error error{};
  error.struct_size = sizeof error;
  return error;
}

/// A failed status on its way to the one place of the addon that turns it into a JavaScript error.
class StatusError : public std::exception {
 public:
  explicit StatusError(const spillway_error& error) : error_(error) {}
  StatusError(spillway_status status, const char* call, const std::string& message) : error_(empty_error()) {
    error_.status = status;
    std::snprintf(error_.call, sizeof error_.call, "%s", call);
    std::snprintf(error_.message, sizeof error_.message, "%s", message.c_str());
  }
  const char* what() const noexcept override { return error_.message; }
  const spillway_error& error() const noexcept { return error_; }

 private:
  spillway_error error_;
};

/// Calls a table function with an error struct and throws StatusError when it fails.
template <typename Function, typename... Arguments>
void check(Function function, Arguments&&... arguments) {
  spillway_error error = empty_error();
  if (function(std::forward<Arguments>(arguments)..., &error) != SPILLWAY_STATUS_OK) throw StatusError(error);
}

/// One reference to a handle.
template <typename T>
class Reference {
 public:
  Reference() = default;
  /// Takes over a reference the caller owns.
  static Reference adopt(const spillway_api* api, T* object) { return Reference(api, object); }
  /// Adds a reference of its own.
  static Reference retain(const spillway_api* api, T* object) {
    if (object) api->retain(reinterpret_cast<spillway_object*>(object));
    return Reference(api, object);
  }
  Reference(const Reference& other) : Reference(retain(other.api_, other.object_)) {}
  Reference(Reference&& other) noexcept : api_(other.api_), object_(std::exchange(other.object_, nullptr)) {}
  Reference& operator=(Reference other) noexcept {
    std::swap(api_, other.api_);
    std::swap(object_, other.object_);
    return *this;
  }
  ~Reference() {
    if (object_) api_->release(reinterpret_cast<spillway_object*>(object_));
  }
  T* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  Reference(const spillway_api* api, T* object) : api_(api), object_(object) {}
  const spillway_api* api_ = nullptr;
  T* object_ = nullptr;
};

inline spillway_buffer_info describe(const spillway_api* api, spillway_buffer* buffer) {
  spillway_buffer_info info{};
  info.struct_size = sizeof info;
  check(api->buffer_info, buffer, &info);
  return info;
}

}  // namespace spillway
