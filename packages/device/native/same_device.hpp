#pragma once

#include "failure.hpp"
#include "object.hpp"

namespace spillway::device {

/// Every call with two handles begins with this, whoever it comes from: another addon or JavaScript.
inline void same_device(const Object& one, const Object& other, const char* call) {
  if (one.device() != other.device()) {
    fail(SPILLWAY_STATUS_WRONG_DEVICE, call, "the handles belong to two different devices; use those of one device");
  }
}

}  // namespace spillway::device
