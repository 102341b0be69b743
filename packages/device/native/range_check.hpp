// What every device asks of the ranges it is given.
#pragma once

#include "device.hpp"
#include "failure.hpp"

namespace spillway::device {

inline void check_range(const char* call, const char* what, uint64_t buffer_bytes, uint64_t offset, uint64_t bytes) {
  if (offset > buffer_bytes || bytes > buffer_bytes - offset) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, call, "%s: %llu bytes at offset %llu lie outside a buffer of %llu bytes",
         what, static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(offset),
         static_cast<unsigned long long>(buffer_bytes));
  }
}

inline void check_copy(const Copy& copy, uint64_t to_bytes, uint64_t to_address, uint64_t from_bytes,
                       uint64_t from_address) {
  check_range("copy", "target", to_bytes, copy.to_offset, copy.bytes);
  check_range("copy", "source", from_bytes, copy.from_offset, copy.bytes);
  // Addresses, not buffers: two buffers may lie over the same memory.
  const uint64_t to = to_address + copy.to_offset;
  const uint64_t from = from_address + copy.from_offset;
  if (to < from + copy.bytes && from < to + copy.bytes) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "copy", "the source and the target of a copy overlap");
  }
}

/// reachable: the device can read the buffer in place.
inline void check_access(const char* kernel, const spillway_access& access, uint64_t buffer_bytes, bool reachable) {
  if (access.mode == 0 || (access.mode & ~(SPILLWAY_ACCESS_READ | SPILLWAY_ACCESS_WRITE)) != 0) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "launch", "kernel '%s': an access neither reads nor writes (mode %u)",
         kernel, access.mode);
  }
  check_range("launch", kernel, buffer_bytes, access.offset, access.bytes);
  if (!reachable) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "launch",
         "kernel '%s' was given host memory that the device cannot read in place; copy it, or allocate it mapped",
         kernel);
  }
}

}  // namespace spillway::device
