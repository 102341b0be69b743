#include "../kernels/embedding_args.h"
#include "element.cuh"
#include "launch_shape.hpp"

namespace spillway::decoder::cuda {
namespace {

template <typename Element>
__device__ void embedding(const EmbeddingArgs& a) {
  const uint64_t hidden = a.hidden;
  const int32_t token = a.tokens[blockIdx.x];
  float* y = a.y + blockIdx.x * hidden;
  const bool known = token >= 0 && static_cast<uint32_t>(token) < a.vocabulary;
  const Element* from = static_cast<const Element*>(a.table) + (known ? static_cast<uint64_t>(token) * hidden : 0);
  for (uint64_t i = threadIdx.x; i < hidden; i += blockDim.x)
    y[i] = known ? widen(from[i]) : __int_as_float(0x7fc00000);
}

}  // namespace
}  // namespace spillway::decoder::cuda

SPILLWAY_ENTRIES_BY_DTYPE(embedding, EmbeddingArgs, , spillway::decoder::cuda::embedding)
