// Shared by the host twin and the device kernel: plain data, passed by value. Pointers are device addresses.
#ifndef SPILLWAY_DECODER_ROPE_APPEND_ARGS_H
#define SPILLWAY_DECODER_ROPE_APPEND_ARGS_H

#include <stdint.h>

/// Row r stands at position[0] + r. Rotates its q in place; writes its rotated k, and its v, into the cache at that
/// position, or nowhere when that is not in [0, context).
struct RopeAppendArgs {
  float* qkv;                      // [rows, (heads + 2 · key_value_heads) · head_dim]: q, then k, then v
  const int32_t* position;         // [1], read when the work runs: a replayed graph sees new positions
  const float* inverse_frequency;  // [head_dim / 2]
  void* keys;                      // [context, key_value_heads, head_dim], of the kernel's dtype
  void* values;                    // as keys
  uint32_t rows;
  uint32_t heads;
  uint32_t key_value_heads;
  uint32_t head_dim;
  uint32_t context;
  float scaling;  // of cos and sin
};

#endif
