// Shared by the host twin and the device kernel: plain data, passed by value. Pointers are device addresses.
#ifndef SPILLWAY_DECODER_SPLIT_ARGS_H
#define SPILLWAY_DECODER_SPLIT_ARGS_H

#include <stdint.h>

/// x as a sum of two bf16, to 2^-17 of it: parts[0, i] = x[i] rounded, parts[1, i] = x[i] - parts[0, i] rounded, both
/// to the nearest, ties to even. Infinity is infinity and NaN.
struct SplitArgs {
  const float* x;  // [count]
  void* parts;     // [2, count], bf16
  uint64_t count;
};

#endif
