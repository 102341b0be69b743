#pragma once

#include <spillway/abi.h>

namespace spillway::device {

/// The function table. One for the process; constant.
const spillway_api* api();

}  // namespace spillway::device
