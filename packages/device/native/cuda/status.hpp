// What `doctor` says about GPUs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace spillway::device::cuda {

struct Gpu {
  std::string name;
  uint64_t total_bytes;
  /// What nobody uses now, other processes counted too; opens a context on the GPU.
  uint64_t free_bytes;
  int32_t compute_capability;  // 90: 9.0
};

struct Status {
  bool available;
  std::string reason;      // why not, for a person
  int32_t driver_version;  // 13000: CUDA 13.0
  std::vector<Gpu> gpus;
};

/// Looks for the NVIDIA driver. Loads it on the first call, never before.
Status status();

}  // namespace spillway::device::cuda
