// Shared by the host twin and the device kernel: plain data, passed by value. Pointers are device addresses.
#ifndef SPILLWAY_DECODER_EMBEDDING_ARGS_H
#define SPILLWAY_DECODER_EMBEDDING_ARGS_H

#include <stdint.h>

/// y[r, :] = table[tokens[r], :]; NaN where the token is outside the table.
struct EmbeddingArgs {
  const int32_t* tokens;  // [rows]
  const void* table;      // [vocabulary, hidden], of the kernel's dtype
  float* y;               // [rows, hidden]
  uint32_t rows;
  uint32_t vocabulary;
  uint32_t hidden;
  uint32_t reserved;
};

#endif
