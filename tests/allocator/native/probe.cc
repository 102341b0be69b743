// The binding of the test addon: one allocator over one made-up source a rig.
#include <algorithm>
#include <memory>
#include <spillway/napi.hpp>

#include "hammer.hpp"

namespace allocator_probe {
namespace {

using namespace spillway::device;

struct Rig {
  Rig(uint64_t limit, uint64_t granule, uint64_t map_granule) : source(limit, granule, map_granule) {
    allocator = std::make_unique<CachingAllocator>(source);
  }
  PlainSource source;
  PlainStreams streams;
  std::map<uint32_t, Allocation> live;
  uint32_t next = 1;
  std::unique_ptr<CachingAllocator> allocator;
};

Rig& rig(const Napi::CallbackInfo& info) { return *info[0].As<Napi::External<Rig>>().Data(); }
CachingAllocator& allocator(const Napi::CallbackInfo& info) {
  if (!rig(info).allocator) spillway::throw_invalid(info.Env(), "the allocator has ended");
  return *rig(info).allocator;
}
uint64_t size(const Napi::Value& value) { return spillway::to_size(value, "a size"); }
Napi::Value number(Napi::Env env, uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

Napi::Value create(const Napi::CallbackInfo& info) {
  auto made = std::make_unique<Rig>(size(info[0]), size(info[1]), size(info[2]));
  return Napi::External<Rig>::New(info.Env(), made.release(), [](Napi::BasicEnv, Rig* dead) { delete dead; });
}

AllocatorSettings to_settings(const Napi::Object& given) {
  AllocatorSettings settings;
  if (given.Has("maxSplitBytes")) settings.max_split_bytes = size(given.Get("maxSplitBytes"));
  settings.expandable_segments = given.Get("expandableSegments").ToBoolean();
  if (given.Has("garbageCollectionThreshold")) {
    settings.garbage_collection_threshold = given.Get("garbageCollectionThreshold").ToNumber();
  }
  if (given.Has("roundupPower2Divisions")) {
    settings.roundup_power2_divisions.fill(given.Get("roundupPower2Divisions").ToNumber().Uint32Value());
  }
  return settings;
}

/// (rig, bytes, stream, tag, pool, settings): [id, address, bytes]
Napi::Value allocate(const Napi::CallbackInfo& info) {
  Rig& to = rig(info);
  const std::string tag = info[3].ToString();
  const std::string pool = info[4].ToString();
  const AllocatorSettings settings = to_settings(info[5].As<Napi::Object>());
  const Allocation one = allocator(info).allocate({size(info[1]), tag, size(info[2]), pool, settings});
  const uint32_t id = to.next++;
  to.live.emplace(id, one);
  Napi::Array result = Napi::Array::New(info.Env(), 3);
  result.Set(0u, number(info.Env(), id));
  result.Set(1u, number(info.Env(), one.address));
  result.Set(2u, number(info.Env(), one.bytes));
  return result;
}

/// (rig, id, [stream, position, …])
Napi::Value free(const Napi::CallbackInfo& info) {
  Rig& from = rig(info);
  const auto found = from.live.find(spillway::to_uint32(info[1], "an id"));
  if (found == from.live.end()) spillway::throw_invalid(info.Env(), "no such block is live");
  const Napi::Array pairs = info[2].As<Napi::Array>();
  Uses uses;
  for (uint32_t i = 0; i + 1 < pairs.Length(); i += 2) {
    const uint64_t stream = size(pairs.Get(i));
    const uint64_t position = size(pairs.Get(i + 1));
    uses.push_back({stream, position, from.streams.marker(stream, position)});
  }
  allocator(info).free(found->second, std::move(uses));
  from.live.erase(found);
  return info.Env().Undefined();
}

Napi::Value complete(const Napi::CallbackInfo& info) {
  rig(info).streams.complete(size(info[1]), size(info[2]));
  return info.Env().Undefined();
}

Napi::Value completed(const Napi::CallbackInfo& info) {
  return number(info.Env(), rig(info).streams.completed(size(info[1])));
}

Napi::Value release_cached(const Napi::CallbackInfo& info) {
  CachingAllocator& from = allocator(info);
  return number(info.Env(), info[1].IsString() ? from.release_cached(info[1].As<Napi::String>().Utf8Value())
                                               : from.release_cached());
}

Napi::Value fail_at(const Napi::CallbackInfo& info) {
  rig(info).source.fail_at(size(info[1]), info[2].ToBoolean());
  return info.Env().Undefined();
}

Napi::Object to_object(Napi::Env env, const AllocatorStatistics& statistics) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("reservedBytes", number(env, statistics.reserved_bytes));
  object.Set("liveBytes", number(env, statistics.live_bytes));
  object.Set("requestedBytes", number(env, statistics.requested_bytes));
  object.Set("peakReservedBytes", number(env, statistics.peak_reserved_bytes));
  object.Set("peakLiveBytes", number(env, statistics.peak_live_bytes));
  object.Set("peakRequestedBytes", number(env, statistics.peak_requested_bytes));
  object.Set("allocations", number(env, statistics.allocations));
  object.Set("frees", number(env, statistics.frees));
  object.Set("segmentsCreated", number(env, statistics.segments_created));
  object.Set("segmentsDestroyed", number(env, statistics.segments_destroyed));
  object.Set("outOfMemory", number(env, statistics.out_of_memory));
  return object;
}

Napi::Value statistics(const Napi::CallbackInfo& info) { return to_object(info.Env(), allocator(info).statistics()); }

Napi::Value source_used(const Napi::CallbackInfo& info) { return number(info.Env(), rig(info).source.used_bytes()); }

Napi::Value source_calls(const Napi::CallbackInfo& info) { return number(info.Env(), rig(info).source.calls()); }

Napi::Object to_object(Napi::Env env, const BlockSnapshot& block) {
  static constexpr const char* kStates[] = {"live", "idle", "pending"};
  Napi::Object object = Napi::Object::New(env);
  object.Set("address", number(env, block.address));
  object.Set("bytes", number(env, block.bytes));
  object.Set("requestedBytes", number(env, block.requested_bytes));
  object.Set("state", kStates[static_cast<size_t>(block.state)]);
  object.Set("tag", block.tag);
  Napi::Array streams = Napi::Array::New(env, block.streams.size());
  for (uint32_t i = 0; i < block.streams.size(); ++i) streams.Set(i, number(env, block.streams[i]));
  object.Set("streams", streams);
  return object;
}

Napi::Value snapshot(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const AllocatorSnapshot taken = allocator(info).snapshot();
  Napi::Object object = Napi::Object::New(env);
  object.Set("total", to_object(env, taken.total));
  Napi::Object pools = Napi::Object::New(env);
  for (const auto& [name, one] : taken.pools) pools.Set(name, to_object(env, one));
  object.Set("pools", pools);
  Napi::Object tags = Napi::Object::New(env);
  for (const auto& [name, bytes] : taken.live_bytes_by_tag) tags.Set(name, number(env, bytes));
  object.Set("liveBytesByTag", tags);
  Napi::Array segments = Napi::Array::New(env, taken.segments.size());
  for (uint32_t i = 0; i < taken.segments.size(); ++i) {
    const SegmentSnapshot& from = taken.segments[i];
    Napi::Object segment = Napi::Object::New(env);
    segment.Set("address", number(env, from.address));
    segment.Set("bytes", number(env, from.bytes));
    segment.Set("pool", from.pool);
    segment.Set("sizeClass", from.size_class == SizeClass::kSmall ? "small" : "large");
    segment.Set("expandable", from.expandable);
    Napi::Array blocks = Napi::Array::New(env, from.blocks.size());
    for (uint32_t k = 0; k < from.blocks.size(); ++k) blocks.Set(k, to_object(env, from.blocks[k]));
    segment.Set("blocks", blocks);
    segments.Set(i, segment);
  }
  object.Set("segments", segments);
  return object;
}

Napi::Value start_trace(const Napi::CallbackInfo& info) {
  allocator(info).start_trace(size(info[1]));
  return info.Env().Undefined();
}

Napi::Value trace(const Napi::CallbackInfo& info) {
  static constexpr const char* kKinds[] = {"allocate", "free", "create-segment", "destroy-segment", "out-of-memory"};
  const Napi::Env env = info.Env();
  const CachingAllocator::Trace taken = allocator(info).trace();
  Napi::Array events = Napi::Array::New(env, taken.events.size());
  for (uint32_t i = 0; i < taken.events.size(); ++i) {
    const TraceEvent& event = taken.events[i];
    Napi::Object object = Napi::Object::New(env);
    object.Set("kind", kKinds[static_cast<size_t>(event.kind)]);
    object.Set("tag", taken.names[event.tag]);
    object.Set("pool", taken.names[event.pool]);
    object.Set("stream", number(env, event.stream));
    object.Set("address", number(env, event.address));
    object.Set("bytes", number(env, event.bytes));
    object.Set("requestedBytes", number(env, event.requested_bytes));
    object.Set("number", number(env, event.number));
    object.Set("timeNs", number(env, event.time_ns));
    events.Set(i, object);
  }
  return events;
}

/// [kind, address, bytes, …] since the last call.
Napi::Value take_source_events(const Napi::CallbackInfo& info) {
  const std::vector<SourceEvent> events = rig(info).source.take_events();
  Napi::Array result = Napi::Array::New(info.Env(), events.size() * 3);
  uint32_t i = 0;
  for (const SourceEvent& event : events) {
    result.Set(i++, number(info.Env(), event.kind));
    result.Set(i++, number(info.Env(), event.address));
    result.Set(i++, number(info.Env(), event.bytes));
  }
  return result;
}

/// The allocator goes; its source stays, to be looked at.
Napi::Value end(const Napi::CallbackInfo& info) {
  rig(info).allocator.reset();
  return info.Env().Undefined();
}

Napi::Value hammer(const Napi::CallbackInfo& info) {
  Rig& on = rig(info);
  on.source.keep_events(false);
  return number(info.Env(), hammer(allocator(info), on.streams, spillway::to_uint32(info[1], "threads"),
                                   spillway::to_uint32(info[2], "rounds"), spillway::to_uint32(info[3], "the seed")));
}

Napi::Object to_object(Napi::Env env, const Measured& measured) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("medianNs", measured.median_ns);
  object.Set("p99Ns", measured.p99_ns);
  return object;
}

Napi::Value measure(const Napi::CallbackInfo& info) {
  Rig& on = rig(info);
  const MeasuredCalls calls = measure(allocator(info), on.streams, spillway::to_uint32(info[1], "live blocks"),
                                      spillway::to_uint32(info[2], "rounds"));
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("allocate", to_object(info.Env(), calls.allocate));
  object.Set("free", to_object(info.Env(), calls.free));
  return object;
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  using spillway::export_function;
  export_function<create>(env, exports, "create");
  export_function<allocate>(env, exports, "allocate");
  export_function<free>(env, exports, "free");
  export_function<complete>(env, exports, "complete");
  export_function<completed>(env, exports, "completed");
  export_function<release_cached>(env, exports, "releaseCached");
  export_function<fail_at>(env, exports, "failAt");
  export_function<statistics>(env, exports, "statistics");
  export_function<source_used>(env, exports, "sourceUsedBytes");
  export_function<source_calls>(env, exports, "sourceCalls");
  export_function<snapshot>(env, exports, "snapshot");
  export_function<start_trace>(env, exports, "startTrace");
  export_function<trace>(env, exports, "trace");
  export_function<take_source_events>(env, exports, "takeSourceEvents");
  export_function<end>(env, exports, "end");
  export_function<hammer>(env, exports, "hammer");
  export_function<measure>(env, exports, "measure");
  return exports;
}

}  // namespace
}  // namespace allocator_probe

namespace {
Napi::Object Initialize(Napi::Env env, Napi::Object exports) { return allocator_probe::initialize(env, exports); }
}  // namespace

NODE_API_MODULE(allocator_probe, Initialize)
