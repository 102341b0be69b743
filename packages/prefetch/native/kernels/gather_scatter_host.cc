#include <spillway/abi.h>

#include <algorithm>
#include <cstring>

#include "gather_scatter_args.h"

namespace spillway::prefetch {
namespace {

uint8_t* at(uint64_t address) {
  return reinterpret_cast<uint8_t*>(address);  // NOLINT(performance-no-int-to-ptr): the ABI gives numbers
}

template <uint64_t kBytes>
void copy_units(uint64_t to, uint64_t from, uint64_t count, const MoveDimension& inner) {
  for (uint64_t i = 0; i < count; ++i) std::memcpy(at(to + i * inner.to_step), at(from + i * inner.from_step), kBytes);
}

/// `count` neighbours along the innermost dimension.
void copy_run(const Move& move, uint64_t to, uint64_t from, uint64_t count) {
  const MoveDimension& inner = move.dimensions[0];
  if (inner.from_step == move.unit_bytes && inner.to_step == move.unit_bytes) {
    std::memcpy(at(to), at(from), count * move.unit_bytes);
    return;
  }
  switch (move.unit_bytes) {
    case 1:
      return copy_units<1>(to, from, count, inner);
    case 2:
      return copy_units<2>(to, from, count, inner);
    case 4:
      return copy_units<4>(to, from, count, inner);
    case 8:
      return copy_units<8>(to, from, count, inner);
    default:
      return copy_units<16>(to, from, count, inner);
  }
}

/// Units [begin, end) of the move, the innermost dimension first.
void copy_part(const Move& move, uint64_t begin, uint64_t end) {
  const uint64_t run = move.dimensions[0].length;
  for (uint64_t unit = begin; unit < end;) {
    uint64_t rest = unit, to = move.to, from = move.from;
    for (uint32_t d = 0; d < move.rank; ++d) {
      const auto& [length, from_step, to_step] = move.dimensions[d];
      from += rest % length * from_step;
      to += rest % length * to_step;
      rest /= length;
    }
    const uint64_t count = std::min(end - unit, run - unit % run);
    copy_run(move, to, from, count);
    unit += count;
  }
}

void copy_chunks(const GatherScatterArgs& args, uint64_t begin, uint64_t end) {
  uint64_t first = 0;  // chunk of the move
  for (uint32_t m = 0; m < args.count; ++m) {
    const Move& move = args.moves[m];
    const uint64_t from = std::max(begin, first), to = std::min<uint64_t>(end, move.end_chunk);
    if (from < to) {
      uint64_t units = 1;
      for (uint32_t d = 0; d < move.rank; ++d) units *= move.dimensions[d].length;
      copy_part(move, (from - first) * SPILLWAY_UNITS_PER_CHUNK,
                std::min(units, (to - first) * SPILLWAY_UNITS_PER_CHUNK));
    }
    first = move.end_chunk;
  }
}

}  // namespace

void gather_scatter_twin(const spillway_twin_context* context, const void* arguments) {
  const auto* args = static_cast<const GatherScatterArgs*>(arguments);
  const uint64_t chunks = args->count == 0 ? 0 : args->moves[args->count - 1].end_chunk;
  context->parallel_for(
      context, chunks, 8,
      [](void* state, uint64_t begin, uint64_t end) {
        copy_chunks(*static_cast<const GatherScatterArgs*>(state), begin, end);
      },
      const_cast<GatherScatterArgs*>(args));
}

}  // namespace spillway::prefetch
