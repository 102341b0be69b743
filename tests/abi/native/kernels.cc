#include "kernels.hpp"

#include <spillway/kernel_image.hpp>

namespace spillway::images {
KernelImage saxpy();
}

namespace abi_probe {
namespace {

void saxpy(const spillway_twin_context* context, const void* raw) {
  auto arguments = *static_cast<const SaxpyArguments*>(raw);
  context->parallel_for(
      context, arguments.count, 1000,
      [](void* state, uint64_t begin, uint64_t end) {
        const auto& [x, y, count, a] = *static_cast<const SaxpyArguments*>(state);
        for (uint64_t i = begin; i < end; ++i) y[i] += a * x[i];
      },
      &arguments);
}

void cover(const spillway_twin_context* context, const void* raw) {
  auto arguments = *static_cast<const CoverArguments*>(raw);
  context->parallel_for(
      context, arguments.count, arguments.grain,
      [](void* state, uint64_t begin, uint64_t end) {
        auto* visits = static_cast<const CoverArguments*>(state)->visits;
        for (uint64_t i = begin; i < end; ++i) ++visits[i];
      },
      &arguments);
}

void context(const spillway_twin_context* context, const void* raw) {
  const auto* arguments = static_cast<const ContextArguments*>(raw);
  uint64_t* out = arguments->out;
  *out++ = context->threads;
  for (uint32_t size : context->grid) *out++ = size;
  for (uint32_t size : context->block) *out++ = size;
  *out++ = context->struct_size;
  *out++ = reinterpret_cast<uintptr_t>(raw) % alignof(std::max_align_t);
  *out++ = arguments->first == 1.5L ? 1 : 0;
}

constexpr spillway_kernel kernel(const char* name, spillway_host_twin twin, spillway::KernelImage image = {}) {
  return {sizeof(spillway_kernel), 0, name, image.data, image.bytes, twin};
}

}  // namespace

const spillway_kernel kSaxpy = kernel("saxpy", saxpy, spillway::images::saxpy());
const spillway_kernel kCover = kernel("cover", cover);
const spillway_kernel kContext = kernel("context", context);
const spillway_kernel kNoTwin = kernel("only_on_device", nullptr);

}  // namespace abi_probe
