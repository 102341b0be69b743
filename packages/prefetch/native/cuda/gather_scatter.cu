// The device's form of ../kernels/gather_scatter_host.cc: a block copies one chunk of one move, and the blocks beside
// it the chunks beside it.
#include "../kernels/gather_scatter_args.h"

namespace spillway::prefetch::cuda {
namespace {

constexpr uint32_t kThreads = 256;  // tensor_moves.cc launches as many
constexpr uint32_t kUnitsEach = SPILLWAY_UNITS_PER_CHUNK / kThreads;

/// Where a unit is read and where it goes.
struct Place {
  uint64_t from;
  uint64_t to;
};

template <typename Index>
__device__ __forceinline__ Place place_of(const Move& move, Index unit) {
  Place place = {move.from, move.to};
  const uint32_t last = move.rank - 1;
  for (uint32_t d = 0; d < last; ++d) {
    const MoveDimension& dimension = move.dimensions[d];
    const Index length = static_cast<Index>(dimension.length);
    const Index next = unit / length;
    const Index index = unit - next * length;
    place.from += index * dimension.from_step;
    place.to += index * dimension.to_step;
    unit = next;
  }
  place.from += unit * move.dimensions[last].from_step;
  place.to += unit * move.dimensions[last].to_step;
  return place;
}

template <typename Unit, typename Index>
__device__ __forceinline__ void copy_units(const Move& move, uint64_t first, uint64_t units) {
  // All loads before the first store, so that they do not wait for one another.
  Unit values[kUnitsEach];
  uint64_t to[kUnitsEach];
#pragma unroll
  for (uint32_t k = 0; k < kUnitsEach; ++k) {
    const uint64_t unit = first + threadIdx.x + k * kThreads;
    if (unit >= units) continue;
    const Place place = place_of(move, static_cast<Index>(unit));
    values[k] = *reinterpret_cast<const Unit*>(place.from);
    to[k] = place.to;
  }
#pragma unroll
  for (uint32_t k = 0; k < kUnitsEach; ++k) {
    if (first + threadIdx.x + k * kThreads < units) *reinterpret_cast<Unit*>(to[k]) = values[k];
  }
}

template <typename Unit>
__device__ __forceinline__ void copy_chunk(const Move& move, uint64_t first) {
  uint64_t units = 1;
  for (uint32_t d = 0; d < move.rank; ++d) units *= move.dimensions[d].length;
  // Dividing 64-bit numbers takes several times as long.
  if (units <= UINT32_MAX) {
    copy_units<Unit, uint32_t>(move, first, units);
  } else {
    copy_units<Unit, uint64_t>(move, first, units);
  }
}

}  // namespace
}  // namespace spillway::prefetch::cuda

extern "C" __global__ void gather_scatter(const __grid_constant__ GatherScatterArgs args) {
  using namespace spillway::prefetch::cuda;
  uint32_t m = 0;
  uint32_t begin_chunk = 0;
  while (args.moves[m].end_chunk <= blockIdx.x) begin_chunk = args.moves[m++].end_chunk;
  const Move& move = args.moves[m];
  const uint64_t first = uint64_t{blockIdx.x - begin_chunk} * SPILLWAY_UNITS_PER_CHUNK;
  switch (move.unit_bytes) {
    case 1:
      return copy_chunk<uint8_t>(move, first);
    case 2:
      return copy_chunk<uint16_t>(move, first);
    case 4:
      return copy_chunk<uint32_t>(move, first);
    case 8:
      return copy_chunk<uint2>(move, first);
    default:
      return copy_chunk<uint4>(move, first);
  }
}
