// What the allocator of a device is told, and what it tells. Settings come checked and complete from JavaScript.
#include "../allocator/caching_allocator.hpp"
#include "instance.hpp"

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

Napi::Object to_object(Napi::Env env, const AllocatorStatistics& statistics) {
  Napi::Object result = Napi::Object::New(env);
  const auto set = [&](const char* key, uint64_t value) { result.Set(key, number(env, value)); };
  set("reservedBytes", statistics.reserved_bytes);
  set("liveBytes", statistics.live_bytes);
  set("requestedBytes", statistics.requested_bytes);
  set("peakReservedBytes", statistics.peak_reserved_bytes);
  set("peakLiveBytes", statistics.peak_live_bytes);
  set("peakRequestedBytes", statistics.peak_requested_bytes);
  set("allocations", statistics.allocations);
  set("frees", statistics.frees);
  set("segmentsCreated", statistics.segments_created);
  set("segmentsDestroyed", statistics.segments_destroyed);
  set("outOfMemory", statistics.out_of_memory);
  return result;
}

// Of a snapshot; what the tags and pools are called comes from the program.
Napi::Object stats_of(Napi::Env env, const AllocatorSnapshot& snapshot) {
  Napi::Object result = to_object(env, snapshot.total);
  Napi::Object pools = Napi::Object::New(env);
  for (const auto& [name, statistics] : snapshot.pools) pools.Set(name, to_object(env, statistics));
  Napi::Object tags = Napi::Object::New(env);
  for (const auto& [tag, bytes] : snapshot.live_bytes_by_tag) tags.Set(tag, number(env, bytes));
  result.Set("pools", pools);
  result.Set("liveBytesByTag", tags);
  return result;
}

// memoryStats(device)
Napi::Value memory_stats(const Napi::CallbackInfo& info) {
  return stats_of(info.Env(), device_of(info).allocator().summary());
}

Napi::Object to_object(Napi::Env env, const BlockSnapshot& block) {
  static constexpr const char* kStates[] = {"live", "idle", "pending"};
  Napi::Object result = Napi::Object::New(env);
  result.Set("address", number(env, block.address));
  result.Set("bytes", number(env, block.bytes));
  result.Set("state", kStates[static_cast<size_t>(block.state)]);
  if (block.state == BlockState::kLive) {
    result.Set("requestedBytes", number(env, block.requested_bytes));
    result.Set("tag", block.tag);
  }
  Napi::Array streams = Napi::Array::New(env, block.streams.size());
  for (uint32_t i = 0; i < block.streams.size(); ++i) streams.Set(i, number(env, block.streams[i]));
  result.Set("streams", streams);
  return result;
}

Napi::Object to_object(Napi::Env env, const AllocatorSnapshot& snapshot) {
  Napi::Array segments = Napi::Array::New(env, snapshot.segments.size());
  for (uint32_t i = 0; i < snapshot.segments.size(); ++i) {
    const SegmentSnapshot& segment = snapshot.segments[i];
    Napi::Object to = Napi::Object::New(env);
    to.Set("address", number(env, segment.address));
    to.Set("bytes", number(env, segment.bytes));
    to.Set("pool", segment.pool);
    to.Set("sizeClass", segment.size_class == SizeClass::kSmall ? "small" : "large");
    to.Set("expandable", segment.expandable);
    Napi::Array blocks = Napi::Array::New(env, segment.blocks.size());
    for (uint32_t at = 0; at < segment.blocks.size(); ++at) blocks.Set(at, to_object(env, segment.blocks[at]));
    to.Set("blocks", blocks);
    segments.Set(i, to);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("stats", stats_of(env, snapshot));
  result.Set("segments", segments);
  return result;
}

// memorySnapshot(device)
Napi::Value memory_snapshot(const Napi::CallbackInfo& info) {
  return to_object(info.Env(), device_of(info).allocator().snapshot());
}

// startMemoryTrace(device, events)
Napi::Value start_memory_trace(const Napi::CallbackInfo& info) {
  device_of(info).allocator().start_trace(to_size(info[1], "events"));
  return info.Env().Undefined();
}

// memoryTrace(device): { events, snapshot }, of one moment
Napi::Value memory_trace(const Napi::CallbackInfo& info) {
  static constexpr const char* kKinds[] = {"allocate", "free", "createSegment", "destroySegment", "outOfMemory"};
  Napi::Env env = info.Env();
  const CachingAllocator::Trace trace = device_of(info).allocator().trace();
  Napi::Array events = Napi::Array::New(env, trace.events.size());
  for (uint32_t i = 0; i < trace.events.size(); ++i) {
    const TraceEvent& event = trace.events[i];
    const bool segment = event.kind == TraceKind::kCreateSegment || event.kind == TraceKind::kDestroySegment;
    Napi::Object to = Napi::Object::New(env);
    to.Set("kind", kKinds[static_cast<size_t>(event.kind)]);
    to.Set("number", number(env, event.number));
    to.Set("timeMs", Napi::Number::New(env, static_cast<double>(event.time_ns) / 1e6));
    to.Set("tag", segment ? "" : trace.names[event.tag]);
    to.Set("pool", trace.names[event.pool]);
    to.Set("stream", number(env, event.stream));
    to.Set("address", number(env, event.address));
    to.Set("bytes", number(env, event.bytes));
    to.Set("requestedBytes", number(env, event.requested_bytes));
    events.Set(i, to);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("events", events);
  result.Set("snapshot", to_object(env, trace.snapshot));
  return result;
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
