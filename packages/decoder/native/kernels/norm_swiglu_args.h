// Shared by the host twin and the device kernel: plain data, passed by value. Pointers are device addresses.
#ifndef SPILLWAY_DECODER_NORM_SWIGLU_ARGS_H
#define SPILLWAY_DECODER_NORM_SWIGLU_ARGS_H

#include <stdint.h>

/// y[r, i] = silu(g[r, i]) · g[r, ffn + i], where g[r, n] = sum over k of x[r, k] / sqrt(mean(x[r, :]²) + epsilon) ·
/// norm[k] · weight[n, k].
struct NormSwigluArgs {
  const float* x;      // [rows, inputs]
  const void* norm;    // [inputs], of the kernel's dtype
  const void* weight;  // [2 · ffn, inputs], of the kernel's dtype: gate, then up
  float* y;            // [rows, ffn]
  uint32_t rows;
  uint32_t inputs;
  uint32_t ffn;
  float epsilon;
};

#endif
