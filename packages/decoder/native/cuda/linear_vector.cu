#include "launch_shape.hpp"
#include "linear_vector.cuh"

namespace spillway::decoder::cuda {
namespace {

// All warps of a block divide the inputs among them: at 4096 inputs of 16 bits a block asks for all its bytes at once.
// Measured on an H200 against 19 other divisions.
template <typename Element>
using Vector = LinearVector<Element, kVectorOutputs, 2, kVectorWarps, kVectorWarps>;
template <typename Element>
__device__ void ask_ahead(const LinearArgs& a) {
  Vector<Element>::ask_ahead(a);
}
template <typename Element>
__device__ void linear_vector(const LinearArgs& a) {
  Vector<Element>::run(a);
}

}  // namespace
}  // namespace spillway::decoder::cuda

// At least 3 blocks: told no number, the compiler saved registers by asking for a few vectors at a time.
SPILLWAY_ENTRIES_ASKING_AHEAD(linear_vector, LinearArgs,
                              __launch_bounds__(spillway::decoder::cuda::kVectorWarps * 32, 3),
                              spillway::decoder::cuda::ask_ahead, spillway::decoder::cuda::linear_vector)
