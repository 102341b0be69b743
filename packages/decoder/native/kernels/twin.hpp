// What every *_host.cc is made of: the name of the instruction set it is compiled for, and parallel loops.
#pragma once

#include <spillway/abi.h>

#include "lanes.hpp"

#ifndef SPILLWAY_INSTRUCTION_SET
#define SPILLWAY_INSTRUCTION_SET baseline
#endif

namespace {

/// Calls body(begin, end) over pieces of [0, count), on the device's threads.
template <typename Body>
void parallel_for(const spillway_twin_context* context, uint64_t count, uint64_t grain, const Body& body) {
  context->parallel_for(
      context, count, grain < 1 ? 1 : grain,
      [](void* state, uint64_t begin, uint64_t end) { (*static_cast<const Body*>(state))(begin, end); },
      const_cast<Body*>(&body));
}

/// Items in a piece, so that handing it to a thread costs little beside it. `item_cost` in vector operations or so.
SPILLWAY_INLINE uint64_t grain_of(uint64_t item_cost) { return 1 + 16384 / (item_cost + 1); }

}  // namespace
