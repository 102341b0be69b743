#include "embedding_args.h"
#include "twin.hpp"

namespace {

template <typename Element>
void embedding(const spillway_twin_context* context, const EmbeddingArgs& a) {
  const auto* table = static_cast<const Element*>(a.table);
  const uint64_t hidden = a.hidden;
  parallel_for(context, a.rows, grain_of(hidden / kLanes), [&](uint64_t begin, uint64_t end) {
    for (uint64_t row = begin; row < end; ++row) {
      const int32_t token = a.tokens[row];
      float* y = a.y + row * hidden;
      if (token < 0 || static_cast<uint32_t>(token) >= a.vocabulary) {
        for (uint64_t i = 0; i < hidden; ++i) y[i] = __builtin_nanf("");
        continue;
      }
      const Element* from = table + static_cast<uint64_t>(token) * hidden;
      uint64_t i = 0;
      for (; i + kLanes <= hidden; i += kLanes) store(y + i, load(from + i));
      if (i < hidden) store_partial(y + i, load_partial(from + i, hidden - i), hidden - i);
    }
  });
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void embedding_f32(const spillway_twin_context* context, const void* arguments) {
  embedding<float>(context, *static_cast<const EmbeddingArgs*>(arguments));
}
void embedding_f16(const spillway_twin_context* context, const void* arguments) {
  embedding<Float16>(context, *static_cast<const EmbeddingArgs*>(arguments));
}
void embedding_bf16(const spillway_twin_context* context, const void* arguments) {
  embedding<BFloat16>(context, *static_cast<const EmbeddingArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
