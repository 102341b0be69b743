#pragma once

#include <string>

namespace spillway::device::cuda {

struct Status {
  bool available;
  std::string reason;  // why not, for a person
};

/// Looks for the NVIDIA driver. Loads it on the first call, never before.
Status status();

}  // namespace spillway::device::cuda
