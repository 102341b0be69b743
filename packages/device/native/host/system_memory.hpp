#pragma once

#include <cstdint>

namespace spillway::device::host {

struct SystemMemory {
  uint64_t total_bytes;
  /// What can be had without swapping, by the kernel's estimate and the control group's limit.
  uint64_t available_bytes;
};

SystemMemory read_system_memory();

}  // namespace spillway::device::host
