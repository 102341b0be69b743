// What bounds the host memory of this process: the machine and every control group above it, version 1 or 2.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway::device {

struct MemoryLimit {
  /// As the system calls it: MemAvailable, memory.max, …
  std::string name;
  /// What it is set to.
  uint64_t limit_bytes;
  /// What it leaves, without swapping.
  uint64_t available_bytes;
  /// What memory that may be swapped out can have besides.
  uint64_t swap_bytes;
  /// How to raise it.
  std::string remedy;
};

/// root: where /proc and /sys are read from; empty for the machine's own. What cannot be read does not limit.
std::vector<MemoryLimit> read_memory_limits(const std::string& root);

/// RLIMIT_MEMLOCK; nothing when it is unlimited or unknown. NVIDIA's driver for Linux does not count what it pins
/// against it (seen with driver 580: 2 GiB pinned by an ordinary user with a limit of 64 KiB). So this refuses nothing;
/// it is told when a driver refuses.
std::optional<uint64_t> read_lockable_bytes(const std::string& root);

}  // namespace spillway::device
