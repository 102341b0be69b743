// Shared by the host twin and the device kernel: plain data, passed by value. Pointers are device addresses.
#ifndef SPILLWAY_DECODER_QK_NORM_ARGS_H
#define SPILLWAY_DECODER_QK_NORM_ARGS_H

#include <stdint.h>

/// Each head x of q and of k, in place: x / sqrt(mean(x²) + epsilon) · its weight. v is left alone.
struct QkNormArgs {
  float* qkv;            // [rows, (heads + 2 · key_value_heads) · head_dim]: q, then k, then v
  const void* q_weight;  // [head_dim], of the kernel's dtype
  const void* k_weight;  // as q_weight
  uint32_t rows;
  uint32_t heads;
  uint32_t key_value_heads;
  uint32_t head_dim;
  float epsilon;
  uint32_t reserved;
};

#endif
