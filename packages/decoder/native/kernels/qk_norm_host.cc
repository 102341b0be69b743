#include "normalize.hpp"
#include "qk_norm_args.h"
#include "twin.hpp"

namespace {

template <typename Element>
void qk_norm(const spillway_twin_context* context, const QkNormArgs& a) {
  const uint64_t head_dim = a.head_dim, normed = uint64_t{a.heads} + a.key_value_heads;
  const uint64_t width = (normed + a.key_value_heads) * head_dim;
  const auto* q_weight = static_cast<const Element*>(a.q_weight);
  const auto* k_weight = static_cast<const Element*>(a.k_weight);
  // Heads, not rows: decoding has one row only.
  parallel_for(context, a.rows * normed, grain_of(3 * head_dim / kLanes), [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      const uint64_t head = i % normed;
      float* x = a.qkv + i / normed * width + head * head_dim;
      normalize(x, head < a.heads ? q_weight : k_weight, x, head_dim, a.epsilon);
    }
  });
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void qk_norm_f32(const spillway_twin_context* context, const void* arguments) {
  qk_norm<float>(context, *static_cast<const QkNormArgs*>(arguments));
}
void qk_norm_f16(const spillway_twin_context* context, const void* arguments) {
  qk_norm<Float16>(context, *static_cast<const QkNormArgs*>(arguments));
}
void qk_norm_bf16(const spillway_twin_context* context, const void* arguments) {
  qk_norm<BFloat16>(context, *static_cast<const QkNormArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
