// Shared by the host twin and the device kernel: plain data, passed by value. Pointers are device addresses.
#ifndef SPILLWAY_DECODER_SILU_MUL_ARGS_H
#define SPILLWAY_DECODER_SILU_MUL_ARGS_H

#include <stdint.h>

/// y[r, i] = silu(gate_up[r, i]) · gate_up[r, ffn + i].
struct SiluMulArgs {
  const float* gate_up;  // [rows, 2 · ffn]
  float* y;              // [rows, ffn]
  uint32_t rows;
  uint32_t ffn;
};

#endif
