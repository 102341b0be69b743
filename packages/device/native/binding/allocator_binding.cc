// What the allocator of a device is told, and what it tells. Settings come checked and complete from JavaScript.
#include "../allocator/caching_allocator.hpp"
#include "instance.hpp"
#include "memory_report.hpp"

namespace spillway::device::binding {

AllocatorSettings settings_of(const Napi::Value& value) {
  auto given = value.As<Napi::Object>();
  AllocatorSettings settings;
  const double megabytes = given.Get("maxSplitSizeMb").As<Napi::Number>().DoubleValue();
  if (megabytes < 0x1p40) settings.max_split_bytes = static_cast<uint64_t>(megabytes * 0x1p20);
  settings.expandable_segments = given.Get("expandableSegments").As<Napi::Boolean>().Value();
  settings.garbage_collection_threshold = given.Get("garbageCollectionThreshold").As<Napi::Number>().DoubleValue();
  auto divisions = given.Get("roundupPower2Divisions").As<Napi::Object>();
  for (uint32_t i = 0; i < AllocatorSettings::kIntervals; ++i) {
    settings.roundup_power2_divisions[i] = divisions.Get(i).As<Napi::Number>().Uint32Value();
  }
  return settings;
}

namespace {

Device& device_of(const Napi::CallbackInfo& info) { return object_of<Device>(info[0], SPILLWAY_KIND_DEVICE); }

// memoryStats(device)
Napi::Value memory_stats(const Napi::CallbackInfo& info) {
  return to_memory_stats(info.Env(), device_of(info).allocator().summary());
}

// memorySnapshot(device)
Napi::Value memory_snapshot(const Napi::CallbackInfo& info) {
  return to_memory_snapshot(info.Env(), device_of(info).allocator().snapshot());
}

// startMemoryTrace(device, events)
Napi::Value start_memory_trace(const Napi::CallbackInfo& info) {
  device_of(info).allocator().start_trace(to_size(info[1], "events"));
  return info.Env().Undefined();
}

// memoryTrace(device): { events, snapshot }, of one moment
Napi::Value memory_trace(const Napi::CallbackInfo& info) {
  return to_memory_trace(info.Env(), device_of(info).allocator().trace());
}

// releaseCachedMemory(device, pool | undefined): bytes
Napi::Value release_cached_memory(const Napi::CallbackInfo& info) {
  CachingAllocator& allocator = device_of(info).allocator();
  if (info[1].IsUndefined()) return number(info.Env(), allocator.release_cached());
  return number(info.Env(), allocator.release_cached(info[1].As<Napi::String>()));
}

// setDefaultSettings(device, settings)
Napi::Value set_default_settings(const Napi::CallbackInfo& info) {
  device_of(info).set_default_settings(settings_of(info[1]));
  return info.Env().Undefined();
}

}  // namespace

void export_allocator(Napi::Env env, Napi::Object exports) {
  export_function<memory_stats>(env, exports, "memoryStats");
  export_function<memory_snapshot>(env, exports, "memorySnapshot");
  export_function<start_memory_trace>(env, exports, "startMemoryTrace");
  export_function<memory_trace>(env, exports, "memoryTrace");
  export_function<release_cached_memory>(env, exports, "releaseCachedMemory");
  export_function<set_default_settings>(env, exports, "setDefaultSettings");
}

}  // namespace spillway::device::binding
