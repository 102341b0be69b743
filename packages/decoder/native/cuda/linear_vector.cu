#include "launch_shape.hpp"
#include "linear_vector.cuh"

namespace spillway::decoder::cuda {
namespace {

// All warps of a block divide the inputs among them: at 4096 inputs of 16 bits a block asks for all its bytes at once.
// Measured on an H200 against 19 other divisions.
template <typename Element>
__device__ void linear_vector(const LinearArgs& a) {
  LinearVector<Element, kVectorOutputs, 2, kVectorWarps, kVectorWarps>::run(a);
}

}  // namespace
}  // namespace spillway::decoder::cuda

// At least 3 blocks: told no number, the compiler saved registers by asking for a few vectors at a time.
SPILLWAY_ENTRIES_BY_DTYPE(linear_vector, LinearArgs, __launch_bounds__(spillway::decoder::cuda::kVectorWarps * 32, 3),
                          spillway::decoder::cuda::linear_vector)
