// Included by host code and device code.
#pragma once

#include <stdint.h>

namespace spillway::decoder {

/// How weights and caches are stored. The numbers are those of kernels.ts.
enum class DType : uint32_t { kF32 = 0, kF16 = 1, kBF16 = 2 };
inline constexpr uint32_t kDTypes = 3;

}  // namespace spillway::decoder
