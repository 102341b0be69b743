#pragma once

#include <cstdint>

namespace spillway::device {

struct SystemMemory {
  /// Of the machine, or the tightest limit of the control groups.
  uint64_t total_bytes;
  /// What can be had without swapping, by the kernel's estimate and the groups' limits, less what is granted already.
  uint64_t available_bytes;
};

SystemMemory read_system_memory();

}  // namespace spillway::device
