#include "touch.hpp"

#include <atomic>
#include <cstddef>
#include <spillway/kernel_image.hpp>
#include <vector>

#include "instance.hpp"

namespace spillway::images {
KernelImage touch();
}

namespace abi_probe {
namespace {

constexpr uint64_t kGrain = 4096;

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

uint8_t* pointer(const TouchRange& range) { return reinterpret_cast<uint8_t*>(static_cast<uintptr_t>(range.address)); }

// A sum, so that pieces may come in any order.
uint64_t sum(const TouchRange& range, uint64_t begin, uint64_t end) {
  uint64_t total = 0;
  for (uint64_t i = begin; i < end; ++i) total += mix((i << 8 | pointer(range)[i]) + 1);
  return total;
}

void write(const TouchRange& range, uint64_t hash, uint64_t begin, uint64_t end) {
  for (uint64_t i = begin; i < end; ++i) pointer(range)[i] = static_cast<uint8_t>(mix(hash + i) >> 56);
}

uint64_t sum_all(const spillway_twin_context* context, const TouchRange& range, bool parallel) {
  if (!parallel) return sum(range, 0, range.bytes);
  struct State {
    const TouchRange& range;
    std::atomic<uint64_t> total{0};
  } state{range};
  context->parallel_for(
      context, range.bytes, kGrain,
      [](void* raw, uint64_t begin, uint64_t end) {
        auto* state = static_cast<State*>(raw);
        state->total += sum(state->range, begin, end);
      },
      &state);
  return state.total;
}

void write_all(const spillway_twin_context* context, const TouchRange& range, uint64_t hash, bool parallel) {
  if (!parallel) return write(range, hash, 0, range.bytes);
  struct State {
    const TouchRange& range;
    uint64_t hash;
  } state{range, hash};
  context->parallel_for(
      context, range.bytes, kGrain,
      [](void* raw, uint64_t begin, uint64_t end) {
        auto* state = static_cast<State*>(raw);
        write(state->range, state->hash, begin, end);
      },
      &state);
}

void touch_twin(const spillway_twin_context* context, const void* raw) {
  const auto* arguments = static_cast<const TouchArguments*>(raw);
  const bool parallel = arguments->parallel != 0;
  uint64_t hash = mix(arguments->seed);
  for (uint32_t i = 0; i < arguments->count; ++i) {
    const TouchRange& range = arguments->ranges[i];
    if (range.mode & SPILLWAY_ACCESS_READ) hash = mix(hash ^ sum_all(context, range, parallel));
    if (range.mode & SPILLWAY_ACCESS_WRITE) write_all(context, range, hash, parallel);
  }
}

Napi::BigUint64Array numbers(const Napi::Value& value, uint64_t most) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_biguint64_array) {
    spillway::throw_invalid(value.Env(), "ranges are a BigUint64Array");
  }
  auto result = value.As<Napi::BigUint64Array>();
  if (result.ElementLength() % 3 != 0 || result.ElementLength() / 3 > most) {
    spillway::throw_invalid(value.Env(), "ranges are three numbers each, at most " + std::to_string(most) + " ranges");
  }
  return result;
}

}  // namespace

const spillway::KernelImage kImage = spillway::images::touch();
const spillway_kernel kTouch = {sizeof(spillway_kernel), 0, "touch", kImage.data, kImage.bytes, touch_twin};

Napi::Value touch(const Napi::CallbackInfo& info) {
  Napi::BigUint64Array ranges = numbers(info[1], kMaxTouchRanges);
  if (!info[2].IsArray()) spillway::throw_invalid(info.Env(), "handles are an array");
  auto handles = info[2].As<Napi::Array>();
  Napi::BigUint64Array declared = numbers(info[3], handles.Length());
  bool lossless = false;
  TouchArguments arguments{};
  arguments.seed = info[5].As<Napi::BigInt>().Uint64Value(&lossless);
  arguments.count = static_cast<uint32_t>(ranges.ElementLength() / 3);
  arguments.parallel = info[4].ToBoolean() ? 1 : 0;
  for (uint32_t i = 0; i < arguments.count; ++i) {
    arguments.ranges[i] = {ranges[3 * i], ranges[3 * i + 1], ranges[3 * i + 2]};
  }
  std::vector<spillway_access> accesses;
  for (uint32_t i = 0; i < declared.ElementLength() / 3; ++i) {
    accesses.push_back({spillway::unbox_buffer(handles.Get(i)), declared[3 * i], declared[3 * i + 1],
                        static_cast<uint32_t>(declared[3 * i + 2]), 0});
  }
  const auto bytes = offsetof(TouchArguments, ranges) + arguments.count * sizeof(TouchRange);
  launch(api(info), stream_of(info[0]), kTouch, &arguments, static_cast<uint32_t>(bytes), accesses);
  return info.Env().Undefined();
}

Napi::Value address(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), spillway::describe(api(info), spillway::unbox_buffer(info[0])).device_address);
}

}  // namespace abi_probe
