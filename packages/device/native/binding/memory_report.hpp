// What an allocator tells, as src/memory-report.ts declares it. Of an allocator alone: the tests' addon has no device.
#pragma once

#include <spillway/napi.hpp>

#include "../allocator/caching_allocator.hpp"

namespace spillway::device::binding {

/// MemoryStats; of a summary or a snapshot.
Napi::Object to_memory_stats(Napi::Env env, const AllocatorSnapshot& snapshot);
/// MemorySnapshot
Napi::Object to_memory_snapshot(Napi::Env env, const AllocatorSnapshot& snapshot);
/// { events, snapshot } of a MemoryTrace
Napi::Object to_memory_trace(Napi::Env env, const CachingAllocator::Trace& trace);

}  // namespace spillway::device::binding
