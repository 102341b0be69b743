// The binding of the test addon: one allocator over one made-up source a rig.
#include <algorithm>
#include <binding/memory_report.hpp>
#include <binding/number.hpp>
#include <memory>
#include <spillway/napi.hpp>

#include "hammer.hpp"

namespace allocator_probe {
namespace {

using namespace spillway::device;
using namespace spillway::device::binding;

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

/// MemoryStats
Napi::Value statistics(const Napi::CallbackInfo& info) {
  return to_memory_stats(info.Env(), allocator(info).summary());
}

Napi::Value source_used(const Napi::CallbackInfo& info) { return number(info.Env(), rig(info).source.used_bytes()); }

Napi::Value source_calls(const Napi::CallbackInfo& info) { return number(info.Env(), rig(info).source.calls()); }

/// MemorySnapshot
Napi::Value snapshot(const Napi::CallbackInfo& info) {
  return to_memory_snapshot(info.Env(), allocator(info).snapshot());
}

Napi::Value start_trace(const Napi::CallbackInfo& info) {
  allocator(info).start_trace(size(info[1]));
  return info.Env().Undefined();
}

/// { events, snapshot } of a MemoryTrace
Napi::Value trace(const Napi::CallbackInfo& info) { return to_memory_trace(info.Env(), allocator(info).trace()); }

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
