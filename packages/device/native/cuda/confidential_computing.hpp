// Whether GPUs reach host memory through bounce buffers only. The driver's own interface does not say it, NVML does.
#pragma once

#include <string>

namespace spillway::device::cuda {

/// Of this machine's GPUs: it is decided when the driver starts. Opens NVML, on the first call only. Any thread.
bool confidential_computing();

/// What `library`, which is NVML or passes for it, says. False: it does not say, or cannot be opened.
bool confidential_computing_by(const std::string& library);

}  // namespace spillway::device::cuda
