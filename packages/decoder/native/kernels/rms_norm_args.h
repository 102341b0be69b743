// Shared by the host twin and the device kernel: plain data, passed by value. Pointers are device addresses.
#ifndef SPILLWAY_DECODER_RMS_NORM_ARGS_H
#define SPILLWAY_DECODER_RMS_NORM_ARGS_H

#include <stdint.h>

/// y[r, :] = x[r, :] / sqrt(mean(x[r, :]²) + epsilon) · weight.
struct RmsNormArgs {
  const float* x;      // [rows, hidden]
  const void* weight;  // [hidden], of the kernel's dtype
  float* y;            // [rows, hidden]
  uint32_t rows;
  uint32_t hidden;
  float epsilon;
  uint32_t reserved;
};

#endif
