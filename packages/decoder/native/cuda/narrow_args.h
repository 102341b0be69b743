// Shared by host code and the device kernel: plain data, passed by value. Pointers are device addresses.
#ifndef SPILLWAY_DECODER_NARROW_ARGS_H
#define SPILLWAY_DECODER_NARROW_ARGS_H

#include <stdint.h>

/// y[i] = x[i], rounded to the kernel's dtype (f16 or bf16): the operand that a library's matrix product asks for.
struct NarrowArgs {
  const float* x;  // [count]
  void* y;         // [count]
  uint64_t count;  // at most 2^41: one launch
};

#endif
