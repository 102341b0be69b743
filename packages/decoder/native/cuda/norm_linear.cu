#include "../kernels/norm_linear_args.h"
#include "vector_products.cuh"

namespace spillway::decoder::cuda {
namespace {

template <typename Element>
__device__ void norm_linear(const NormLinearArgs& a) {
  const uint64_t inputs = a.inputs, n = uint64_t{blockIdx.x} * kVectorOutputs, output = n + threadIdx.x;
  const auto* norm = static_cast<const Element*>(a.norm);
  WeightRows<Element> weights;
  find_rows<kVectorOutputs>(static_cast<const Element*>(a.weight), n, a.outputs, inputs, weights);
  for (uint64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    float result = VectorProducts<Element, true>(a.x + row * inputs, norm, weights, inputs).multiply(a.epsilon);
    if (threadIdx.x >= kVectorOutputs || output >= a.outputs) continue;
    if (a.bias) result += widen(static_cast<const Element*>(a.bias)[output]);
    a.y[row * a.outputs + output] = result;
  }
}

}  // namespace
}  // namespace spillway::decoder::cuda

SPILLWAY_ENTRIES_BY_DTYPE(norm_linear, NormLinearArgs, __launch_bounds__(spillway::decoder::cuda::kVectorWarps * 32, 3),
                          spillway::decoder::cuda::norm_linear)
