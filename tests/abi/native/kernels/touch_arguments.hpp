// What the two forms of `touch` are given.
#pragma once

#include <stdint.h>

namespace abi_probe {

struct TouchRange {
  uint64_t address;  // as the device sees it
  uint64_t bytes;
  uint64_t mode;  // SPILLWAY_ACCESS_*
};

inline constexpr uint32_t kMaxTouchRanges = 160;

/// Only the head and `count` ranges are enqueued; CUDA takes a launch with fewer bytes than the entry declares.
struct TouchArguments {
  uint64_t seed;
  uint32_t count;
  uint32_t parallel;
  TouchRange ranges[kMaxTouchRanges];
};

}  // namespace abi_probe
