// Shared by the host twin and the device kernel: plain data, passed by value. Addresses are the device's.
#ifndef SPILLWAY_PREFETCH_GATHER_SCATTER_ARGS_H
#define SPILLWAY_PREFETCH_GATHER_SCATTER_ARGS_H

#include <stdint.h>

/// What is left of a layout when its dimensions are joined: three are enough for all but exotic ones.
#define SPILLWAY_MOVE_RANK 6
/// With as many, the arguments are just under the 4096 bytes that a launch may have.
#define SPILLWAY_MOVES_PER_LAUNCH 23
/// A block's share: units, of up to 16 bytes each.
#define SPILLWAY_UNITS_PER_CHUNK 2048

/// Steps are bytes from one index to the next.
struct MoveDimension {
  uint64_t length;
  uint64_t from_step;
  uint64_t to_step;
};

/// Copies units from one strided place to another. What a launch writes overlaps nothing that it reads.
struct Move {
  uint64_t from;
  uint64_t to;
  struct MoveDimension dimensions[SPILLWAY_MOVE_RANK];  // innermost first
  uint32_t rank;                                        // of them in use, at least 1
  uint32_t unit_bytes;                                  // 1, 2, 4, 8 or 16; divides both addresses and every step
  uint32_t end_chunk;                                   // chunks of this move and of those before it
  uint32_t reserved;
};

struct GatherScatterArgs {
  uint32_t count;
  uint32_t reserved;
  struct Move moves[SPILLWAY_MOVES_PER_LAUNCH];
};

#endif
