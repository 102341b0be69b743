// x · sigmoid(x), for the host twins.
#pragma once

#include "lanes.hpp"

namespace {

SPILLWAY_INLINE Lanes silu(Lanes x) { return x / (exponential(-x) + 1.0f); }

}  // namespace
