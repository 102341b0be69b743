#include "rope_append_args.h"
#include "twin.hpp"

namespace {

// Pairs whose cos and sin are computed once and used for every head: on the stack, so headDim needs no bound.
constexpr uint64_t kPairs = 64;

template <typename Element>
void append(const float* from, uint64_t count, Element* to) {
  for (uint64_t i = 0; i < count; ++i) narrow(from[i], to + i);
}

template <typename Element>
void rope_append_row(const RopeAppendArgs& a, uint64_t row) {
  const uint64_t half = a.head_dim / 2, cache_width = uint64_t{a.key_value_heads} * a.head_dim;
  const int64_t position = int64_t{*a.position} + static_cast<int64_t>(row);
  const bool kept = position >= 0 && position < int64_t{a.context};
  float* q = a.qkv + row * (a.heads * uint64_t{a.head_dim} + 2 * cache_width);
  const float* k = q + a.heads * uint64_t{a.head_dim};
  Element* keys = kept ? static_cast<Element*>(a.keys) + static_cast<uint64_t>(position) * cache_width : nullptr;
  for (uint64_t first = 0; first < half; first += kPairs) {
    const uint64_t pairs = smaller(kPairs, half - first);
    float cosine[kPairs], sine[kPairs];
    for (uint64_t i = 0; i < pairs; ++i) {
      // f32 all through, as Hugging Face computes it: more exact angles would differ from what models were trained on.
      const float angle = static_cast<float>(position) * a.inverse_frequency[first + i];
      cosine[i] = __builtin_cosf(angle) * a.scaling;
      sine[i] = __builtin_sinf(angle) * a.scaling;
    }
    for (uint64_t head = 0; head < a.heads; ++head) {
      float* low = q + head * a.head_dim + first;
      float* high = low + half;
      for (uint64_t i = 0; i < pairs; ++i) {
        const float x = low[i], y = high[i];
        low[i] = x * cosine[i] - y * sine[i];
        high[i] = y * cosine[i] + x * sine[i];
      }
    }
    for (uint64_t head = 0; kept && head < a.key_value_heads; ++head) {
      const float* low = k + head * a.head_dim + first;
      const float* high = low + half;
      float rotated_low[kPairs], rotated_high[kPairs];
      for (uint64_t i = 0; i < pairs; ++i) {
        rotated_low[i] = low[i] * cosine[i] - high[i] * sine[i];
        rotated_high[i] = high[i] * cosine[i] + low[i] * sine[i];
      }
      append(rotated_low, pairs, keys + head * a.head_dim + first);
      append(rotated_high, pairs, keys + head * a.head_dim + first + half);
    }
  }
  if (kept)
    append(k + cache_width, cache_width, static_cast<Element*>(a.values) + (keys - static_cast<Element*>(a.keys)));
}

template <typename Element>
void rope_append(const spillway_twin_context* context, const RopeAppendArgs& a) {
  const uint64_t width = (uint64_t{a.heads} + 2 * uint64_t{a.key_value_heads}) * a.head_dim;
  parallel_for(context, a.rows, grain_of(width), [&](uint64_t begin, uint64_t end) {
    for (uint64_t row = begin; row < end; ++row) rope_append_row<Element>(a, row);
  });
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void rope_append_f32(const spillway_twin_context* context, const void* arguments) {
  rope_append<float>(context, *static_cast<const RopeAppendArgs*>(arguments));
}
void rope_append_f16(const spillway_twin_context* context, const void* arguments) {
  rope_append<Float16>(context, *static_cast<const RopeAppendArgs*>(arguments));
}
void rope_append_bf16(const spillway_twin_context* context, const void* arguments) {
  rope_append<BFloat16>(context, *static_cast<const RopeAppendArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
