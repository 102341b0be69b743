// The extensions' tables. Constant, as the table that hands them out by name is.
#pragma once

#include <spillway/abi.h>

#include "../device.hpp"

namespace spillway::device {

const spillway_graph_api* graph_api();
const spillway_virtual_memory_api* virtual_memory_api();
const spillway_timing_api* timing_api();
/// Null: the device is no GPU.
const spillway_cuda_api* cuda_api(Device* device);

}  // namespace spillway::device
