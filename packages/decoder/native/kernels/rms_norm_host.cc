#include "normalize.hpp"
#include "rms_norm_args.h"
#include "twin.hpp"

namespace {

template <typename Element>
void rms_norm(const spillway_twin_context* context, const RmsNormArgs& a) {
  const auto* weight = static_cast<const Element*>(a.weight);
  const uint64_t hidden = a.hidden;
  parallel_for(context, a.rows, grain_of(3 * hidden / kLanes), [&](uint64_t begin, uint64_t end) {
    for (uint64_t row = begin; row < end; ++row) {
      normalize(a.x + row * hidden, weight, a.y + row * hidden, hidden, a.epsilon);
    }
  });
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void rms_norm_f32(const spillway_twin_context* context, const void* arguments) {
  rms_norm<float>(context, *static_cast<const RmsNormArgs*>(arguments));
}
void rms_norm_f16(const spillway_twin_context* context, const void* arguments) {
  rms_norm<Float16>(context, *static_cast<const RmsNormArgs*>(arguments));
}
void rms_norm_bf16(const spillway_twin_context* context, const void* arguments) {
  rms_norm<BFloat16>(context, *static_cast<const RmsNormArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
