#include "silu.hpp"
#include "silu_mul_args.h"
#include "twin.hpp"

namespace {

void silu_mul_rows(const spillway_twin_context* context, const SiluMulArgs& a) {
  // Pieces of a row, not rows: decoding has one row only.
  constexpr uint64_t kPiece = 1024;
  const uint64_t ffn = a.ffn, pieces = divide_up(ffn, kPiece);
  parallel_for(context, a.rows * pieces, grain_of(kPiece / kLanes * 20), [&](uint64_t begin, uint64_t end) {
    for (uint64_t piece = begin; piece < end; ++piece) {
      const uint64_t row = piece / pieces, first = piece % pieces * kPiece, last = smaller(first + kPiece, ffn);
      const float* gate = a.gate_up + row * 2 * ffn;
      const float* up = gate + ffn;
      float* y = a.y + row * ffn;
      uint64_t i = first;
      for (; i + kLanes <= last; i += kLanes) store(y + i, silu(load(gate + i)) * load(up + i));
      if (i < last) {
        const uint64_t count = last - i;
        store_partial(y + i, silu(load_partial(gate + i, count)) * load_partial(up + i, count), count);
      }
    }
  });
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void silu_mul(const spillway_twin_context* context, const void* arguments) {
  silu_mul_rows(context, *static_cast<const SiluMulArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
