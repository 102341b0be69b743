#include "../kernels/linear_args.h"
#include "vector_products.cuh"

namespace spillway::decoder::cuda {
namespace {

template <typename Element>
__device__ void linear_vector(const LinearArgs& a) {
  const uint64_t inputs = a.inputs, n = uint64_t{blockIdx.x} * kVectorOutputs, output = n + threadIdx.x;
  WeightRows<Element> weights;
  find_rows<kVectorOutputs>(static_cast<const Element*>(a.weight), n, a.outputs, inputs, weights);
  for (uint64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    float result = VectorProducts<Element, false>(a.x + row * inputs, nullptr, weights, inputs).multiply(0);
    if (threadIdx.x >= kVectorOutputs || output >= a.outputs) continue;
    if (a.bias) result += widen(static_cast<const Element*>(a.bias)[output]);
    float* y = a.y + row * a.outputs + output;
    *y = a.accumulate ? *y + result : result;
  }
}

}  // namespace
}  // namespace spillway::decoder::cuda

// At least 3 blocks: told no number, the compiler saved registers by asking for a few vectors at a time.
SPILLWAY_ENTRIES_BY_DTYPE(linear_vector, LinearArgs, __launch_bounds__(spillway::decoder::cuda::kVectorWarps * 32, 3),
                          spillway::decoder::cuda::linear_vector)
