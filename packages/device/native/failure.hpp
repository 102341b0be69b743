// How a failure travels inside the device addon: as a C++ exception up to the ABI boundary, never across it.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <spillway/abi.hpp>

namespace spillway::device {

[[noreturn]] inline void fail(spillway_status status, const char* call, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

inline void fail(spillway_status status, const char* call, const char* format, ...) {
  spillway_error error = empty_error();
  error.status = status;
  std::snprintf(error.call, sizeof error.call, "%s", call);
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(error.message, sizeof error.message, format, arguments);
  va_end(arguments);
  throw StatusError(error);
}

[[noreturn]] inline void fail_system(const char* call, int code, const char* what) {
  spillway_error error = empty_error();
  error.status = SPILLWAY_STATUS_SYSTEM;
  error.native_code = code;
  std::snprintf(error.call, sizeof error.call, "%s", call);
  std::snprintf(error.message, sizeof error.message, "%s: %s", what, std::strerror(code));
  throw StatusError(error);
}

/// Runs one ABI function's body: whatever it throws becomes a status and the caller's error struct.
template <typename Body>
spillway_status guard(spillway_error* out, Body&& body) noexcept {
  spillway_error error = empty_error();
  try {
    body();
    return SPILLWAY_STATUS_OK;
  } catch (const StatusError& failure) {
    error = failure.error();
  } catch (const std::bad_alloc&) {
    error.status = SPILLWAY_STATUS_SYSTEM;
    std::snprintf(error.message, sizeof error.message, "the system has no memory left for a small allocation");
  } catch (const std::exception& failure) {
    error.status = SPILLWAY_STATUS_INTERNAL;
    std::snprintf(error.message, sizeof error.message, "%s", failure.what());
  } catch (...) {
    error.status = SPILLWAY_STATUS_INTERNAL;
    std::snprintf(error.message, sizeof error.message, "unknown failure");
  }
  // A caller built against an older, shorter struct gets the part it knows.
  if (out != nullptr && out->struct_size >= offsetof(spillway_error, message)) {
    uint32_t size = out->struct_size < sizeof error ? out->struct_size : static_cast<uint32_t>(sizeof error);
    error.struct_size = out->struct_size;
    std::memcpy(out, &error, size);
    if (size > offsetof(spillway_error, message)) {
      reinterpret_cast<char*>(out)[size - 1] = '\0';
    }
  }
  return error.status;
}

}  // namespace spillway::device
