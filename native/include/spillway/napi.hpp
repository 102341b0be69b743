// The only header that includes napi.h: its configuration macros must be the same in every file of an addon.
// Everything here runs on the JavaScript thread of one environment unless a line says otherwise.
#pragma once

#include <napi.h>

#include <cmath>
#include <limits>
#include <spillway/abi.hpp>
#include <string>

namespace spillway {

inline constexpr napi_type_tag kApiTag = {SPILLWAY_API_TAG_LOWER, SPILLWAY_API_TAG_UPPER};
inline constexpr napi_type_tag kBoxTag = {SPILLWAY_BOX_TAG_LOWER, SPILLWAY_BOX_TAG_UPPER};

inline Napi::Error coded_error(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("name", Napi::String::New(env, "SpillwayError"));
  error.Set("code", Napi::String::New(env, code));
  return error;
}

/// The one place where a status becomes a JavaScript error.
inline Napi::Error to_javascript(Napi::Env env, const spillway_error& error) {
  Napi::Error result = coded_error(env, status_code(error.status), error.message);
  Napi::Object details = Napi::Object::New(env);
  details.Set("call", Napi::String::New(env, error.call));
  if (error.native_code != 0) details.Set("nativeCode", Napi::Number::New(env, static_cast<double>(error.native_code)));
  if (error.status == SPILLWAY_STATUS_OUT_OF_MEMORY) {
    details.Set("requestedBytes", Napi::Number::New(env, static_cast<double>(error.requested_bytes)));
    details.Set("freeBytes", Napi::Number::New(env, static_cast<double>(error.free_bytes)));
    details.Set("totalBytes", Napi::Number::New(env, static_cast<double>(error.total_bytes)));
  }
  result.Set("details", details);
  return result;
}

/// Wraps a binding function: C++ failures leave as JavaScript errors, never as C++ exceptions.
template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return Function(info);
  } catch (const StatusError& failure) {
    throw to_javascript(info.Env(), failure.error());
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw coded_error(info.Env(), "SPILLWAY_SYSTEM", "the system has no memory left for a small allocation");
  } catch (const std::exception& failure) {
    throw coded_error(info.Env(), "SPILLWAY_INTERNAL", failure.what());
  }
}

template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
void export_function(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New(env, guarded<Function>, name));
}

[[noreturn]] inline void throw_invalid(Napi::Env env, const std::string& message) {
  throw coded_error(env, "SPILLWAY_INVALID_ARGUMENT", message);
}

/// A whole number of bytes, elements or the like: 0 … 2^53 - 1. NaN, fractions and negatives are refused.
inline uint64_t to_size(const Napi::Value& value, const char* what) {
  if (value.IsNumber()) {
    double number = value.As<Napi::Number>().DoubleValue();
    if (number >= 0 && number <= 9007199254740991.0 && number == std::floor(number))
      return static_cast<uint64_t>(number);
  }
  throw_invalid(value.Env(), std::string(what) + " must be a whole number from 0 to 2^53 - 1");
}

inline uint32_t to_uint32(const Napi::Value& value, const char* what) {
  uint64_t number = to_size(value, what);
  if (number > std::numeric_limits<uint32_t>::max()) {
    throw_invalid(value.Env(), std::string(what) + " must be less than 2^32");
  }
  return static_cast<uint32_t>(number);
}

inline float to_float(const Napi::Value& value, const char* what) {
  if (!value.IsNumber()) throw_invalid(value.Env(), std::string(what) + " must be a number");
  return value.As<Napi::Number>().FloatValue();
}

/// The table behind an External, after the handshake: tag, version, size. `needed_size` is the consumer's
/// sizeof(spillway_api).
inline const spillway_api* attach_api(const Napi::Value& value, uint32_t needed_size, const char* consumer) {
  Napi::Env env = value.Env();
  // The tag is checked before the pointer is read: an untagged External may hold anything.
  if (!value.IsExternal() || !value.As<Napi::External<spillway_api>>().CheckTypeTag(&kApiTag)) {
    throw coded_error(
        env, "SPILLWAY_ABI_FOREIGN",
        std::string(consumer) + " was given something that is not the function table of @spillway/device");
  }
  const spillway_api* api = value.As<Napi::External<spillway_api>>().Data();
  if (api->abi_major != SPILLWAY_ABI_MAJOR || api->abi_minor != SPILLWAY_ABI_MINOR || api->struct_size < needed_size) {
    throw coded_error(env, "SPILLWAY_ABI_MISMATCH",
                      std::string(consumer) + " was built for ABI " + std::to_string(SPILLWAY_ABI_MAJOR) + "." +
                          std::to_string(SPILLWAY_ABI_MINOR) + " (" + std::to_string(needed_size) +
                          " bytes), @spillway/device provides " + std::to_string(api->abi_major) + "." +
                          std::to_string(api->abi_minor) + " (" + std::to_string(api->struct_size) +
                          " bytes): install versions of both that belong together");
  }
  return api;
}

inline const char* kind_name(uint32_t kind) {
  static constexpr const char* kNames[SPILLWAY_KIND_COUNT] = {
      "handle", "device",        "stream",          "event",  "device-buffer", "host-buffer",
      "graph",  "address-range", "physical-memory", "kernel", "timestamp"};
  return kind < SPILLWAY_KIND_COUNT ? kNames[kind] : "unknown";
}

/// The box behind a handle's External; never null, its object may be.
inline spillway_box* to_box(const Napi::Value& value) {
  if (!value.IsExternal() || !value.As<Napi::External<spillway_box>>().CheckTypeTag(&kBoxTag)) {
    throw_invalid(value.Env(), "expected a handle of @spillway/device");
  }
  return value.As<Napi::External<spillway_box>>().Data();
}

inline spillway_object* live_object(Napi::Env env, const spillway_box* box) {
  if (box->object == nullptr) {
    throw coded_error(env, "SPILLWAY_DISPOSED",
                      std::string("this ") + kind_name(box->kind) + " was disposed; use one that is still open");
  }
  return box->object;
}

/// Borrowed for the call. `kind` is a SPILLWAY_KIND_* value.
template <typename T>
T* unbox(const Napi::Value& value, uint32_t kind) {
  spillway_box* box = to_box(value);
  if (box->kind != kind) {
    throw_invalid(value.Env(), std::string("expected a ") + kind_name(kind) + ", got a " + kind_name(box->kind));
  }
  return reinterpret_cast<T*>(live_object(value.Env(), box));
}

/// A device or host buffer, borrowed for the call.
inline spillway_buffer* unbox_buffer(const Napi::Value& value) {
  spillway_box* box = to_box(value);
  if (box->kind != SPILLWAY_KIND_DEVICE_BUFFER && box->kind != SPILLWAY_KIND_HOST_BUFFER) {
    throw_invalid(value.Env(), std::string("expected a buffer, got a ") + kind_name(box->kind));
  }
  return reinterpret_cast<spillway_buffer*>(live_object(value.Env(), box));
}

}  // namespace spillway
