#include "split_args.h"
#include "twin.hpp"

namespace {

void split_elements(const spillway_twin_context* context, const SplitArgs& a) {
  auto* first = static_cast<BFloat16*>(a.parts);
  BFloat16* second = first + a.count;
  parallel_for(context, a.count, grain_of(1), [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      narrow(a.x[i], first + i);
      narrow(a.x[i] - widen(first[i]), second + i);
    }
  });
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void split_bf16(const spillway_twin_context* context, const void* arguments) {
  split_elements(context, *static_cast<const SplitArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
