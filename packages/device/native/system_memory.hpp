#pragma once

#include <cstdint>

namespace spillway::device {

struct SystemMemory {
  uint64_t total_bytes;
  /// What can be had without swapping, by the kernel's estimate and the control group's limit.
  uint64_t available_bytes;
};

SystemMemory read_system_memory();
/// Throws OUT_OF_MEMORY: past what it has left the system kills instead of refusing.
void require_available_host_memory(uint64_t bytes);

}  // namespace spillway::device
