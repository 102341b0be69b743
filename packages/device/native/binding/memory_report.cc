#include "memory_report.hpp"

#include "number.hpp"

namespace spillway::device::binding {
namespace {

Napi::Object to_memory_statistics(Napi::Env env, const AllocatorStatistics& statistics) {
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

Napi::Object to_memory_block(Napi::Env env, const BlockSnapshot& block) {
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

}  // namespace

Napi::Object to_memory_stats(Napi::Env env, const AllocatorSnapshot& snapshot) {
  Napi::Object result = to_memory_statistics(env, snapshot.total);
  Napi::Object pools = Napi::Object::New(env);
  for (const auto& [name, statistics] : snapshot.pools) pools.Set(name, to_memory_statistics(env, statistics));
  Napi::Object tags = Napi::Object::New(env);
  for (const auto& [tag, bytes] : snapshot.live_bytes_by_tag) tags.Set(tag, number(env, bytes));
  result.Set("pools", pools);
  result.Set("liveBytesByTag", tags);
  return result;
}

Napi::Object to_memory_snapshot(Napi::Env env, const AllocatorSnapshot& snapshot) {
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
    for (uint32_t at = 0; at < segment.blocks.size(); ++at) blocks.Set(at, to_memory_block(env, segment.blocks[at]));
    to.Set("blocks", blocks);
    segments.Set(i, to);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("stats", to_memory_stats(env, snapshot));
  result.Set("segments", segments);
  return result;
}

Napi::Object to_memory_trace(Napi::Env env, const CachingAllocator::Trace& trace) {
  static constexpr const char* kKinds[] = {"allocate", "free", "createSegment", "destroySegment", "outOfMemory"};
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
  result.Set("snapshot", to_memory_snapshot(env, trace.snapshot));
  return result;
}

}  // namespace spillway::device::binding
