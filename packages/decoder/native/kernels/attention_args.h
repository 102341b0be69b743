// Shared by the host twin and the device kernel: plain data, passed by value. Pointers are device addresses.
#ifndef SPILLWAY_DECODER_ATTENTION_ARGS_H
#define SPILLWAY_DECODER_ATTENTION_ARGS_H

#include <stdint.h>

/* So that one head's state fits into a block's shared memory, and on the stack of a host thread. */
#define SPILLWAY_ATTENTION_MAX_HEAD_DIM 256

/// Row r, at p = position[0] + r, attends to cache positions 0 … p, or with a window to the last `window` of these, its
/// own included. NaN where p is not in [0, context).
struct AttentionArgs {
  const float* qkv;         // [rows, (heads + 2 · key_value_heads) · head_dim]; q, rotated, is what is read
  const int32_t* position;  // [1], read when the work runs
  const void* keys;         // [context, key_value_heads, head_dim], of the kernel's dtype
  const void* values;       // as keys
  float* y;                 // [rows, heads · head_dim]
  uint32_t rows;
  uint32_t heads;  // query head h reads key-value head h / (heads / key_value_heads)
  uint32_t key_value_heads;
  uint32_t head_dim;  // at most SPILLWAY_ATTENTION_MAX_HEAD_DIM
  uint32_t context;
  float scale;      // of the scores, before softmax
  uint32_t window;  // 0: none
  uint32_t reserved;
};

#endif
