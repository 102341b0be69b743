#include "../kernels/norm_swiglu_args.h"
#include "silu.cuh"
#include "vector_products.cuh"

namespace spillway::decoder::cuda {
namespace {

/// Of a block's products, the first half are of gate and the others those of up that belong to them.
template <typename Element>
__device__ void norm_swiglu(const NormSwigluArgs& a) {
  const uint64_t inputs = a.inputs, ffn = a.ffn, n = uint64_t{blockIdx.x} * kGatedOutputs;
  const auto* norm = static_cast<const Element*>(a.norm);
  const auto* gate = static_cast<const Element*>(a.weight);
  WeightRows<Element> weights;
  find_rows<kGatedOutputs>(gate, n, ffn, inputs, weights);
  find_rows<kGatedOutputs>(gate + ffn * inputs, n, ffn, inputs, weights + kGatedOutputs);
  for (uint64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    const float product = VectorProducts<Element, true>(a.x + row * inputs, norm, weights, inputs).multiply(a.epsilon);
    if (threadIdx.x >= 32) continue;
    const float of_up = __shfl_down_sync(0xffffffffu, product, kGatedOutputs);
    if (threadIdx.x >= kGatedOutputs || n + threadIdx.x >= ffn) continue;
    a.y[row * ffn + n + threadIdx.x] = silu(product) * of_up;
  }
}

}  // namespace
}  // namespace spillway::decoder::cuda

SPILLWAY_ENTRIES_BY_DTYPE(norm_swiglu, NormSwigluArgs, __launch_bounds__(spillway::decoder::cuda::kVectorWarps * 32, 3),
                          spillway::decoder::cuda::norm_swiglu)
