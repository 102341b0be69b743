// Shared by the host twin and the device kernel: plain data, passed by value. Pointers are device addresses.
#ifndef SPILLWAY_DECODER_NORM_LINEAR_ARGS_H
#define SPILLWAY_DECODER_NORM_LINEAR_ARGS_H

#include <stdint.h>

/// y[r, n] = sum over k of x[r, k] / sqrt(mean(x[r, :]²) + epsilon) · norm[k] · weight[n, k], + bias[n].
struct NormLinearArgs {
  const float* x;      // [rows, inputs]
  const void* norm;    // [inputs], of the kernel's dtype
  const void* weight;  // [outputs, inputs], of the kernel's dtype
  const void* bias;    // (optional) [outputs], of the kernel's dtype
  float* y;            // [rows, outputs]
  uint32_t rows;
  uint32_t inputs;
  uint32_t outputs;
  float epsilon;
};

#endif
