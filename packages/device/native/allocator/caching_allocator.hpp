// Device memory in blocks of cached segments: a block that is free again serves the same stream at once, since what the
// stream enqueues next runs later, and other streams as soon as the work with it is done, without anybody waiting.
//
// Ideas: size classes, settings and the retry after giving back what is cached are those of PyTorch's
// CUDACachingAllocator; stream order without blocking, and taking from streams whose work is done, of RAPIDS rmm's
// stream_ordered_memory_resource. What is different: blocks belong to nobody while they are free; free neighbours of
// different streams are joined for whom they are both usable; a stream takes of what grows for another one before it
// grows its own; large blocks kept whole are split rather than failing; and free segments are given back before the
// memory grows well past what was ever live.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "allocation_trace.hpp"
#include "allocator_settings.hpp"
#include "names.hpp"
#include "pool.hpp"
#include "segment_source.hpp"

namespace spillway::device {

struct AllocationRequest {
  uint64_t bytes;
  const std::string& tag;
  /// Who uses it first. kNoStream: whoever, without waiting for anything.
  StreamId stream;
  /// By name; empty: the default one, the only one with expandable segments.
  const std::string& pool;
  const AllocatorSettings& settings;
};

struct Allocation {
  uint64_t address;
  uint64_t bytes;         // of the block
  uint64_t wanted_bytes;  // of those, what was asked for, rounded up: the rest was too little for anybody else
  Block* block;           // for free()
};

/// All methods: any thread. They throw StatusError and std::bad_alloc, and have changed nothing then.
class CachingAllocator {
 public:
  explicit CachingAllocator(SegmentSource& source) : source_(source) {}
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;
  /// Gives all back. Nothing is live, and no work uses what was.
  ~CachingAllocator();

  /// OUT_OF_MEMORY: neither giving back what is cached, nor cutting up what is kept whole, nor waiting for work that
  /// still uses free blocks made room. Only that last step blocks.
  Allocation allocate(const AllocationRequest& request);
  /// Once an allocation. `uses`: one a stream that may have work with the block, in any order.
  void free(const Allocation& allocation, Uses uses) noexcept;

  /// What segments are multiples of.
  uint64_t granule_bytes() const { return source_.granule_bytes(); }

  /// Gives back what is cached and used by no work: of all pools. Returns the bytes.
  uint64_t release_cached();
  uint64_t release_cached(const std::string& pool);

  /// A snapshot without its segments.
  AllocatorSnapshot summary() const;
  AllocatorSnapshot snapshot() const;

  /// See AllocationTrace::start. Names are those of `tag` and `pool` in its events.
  void start_trace(size_t capacity);
  struct Trace {
    std::vector<TraceEvent> events;
    std::vector<std::string> names;
    AllocatorSnapshot snapshot;  // after the last event
  };
  Trace trace() const;

 private:
  Pool& pool(const std::string& name);
  /// `wanted`: as take() is to have it.
  Block* find_slowly(const AllocationRequest& request, Wanted& wanted, std::unique_lock<std::mutex>& lock);
  Block* find_cached(Heap& heap, const Wanted& wanted);
  Block* grow(Pool& pool, const AllocationRequest& request, const Wanted& wanted);
  Block* grow_expandable(Pool& pool, Heap& heap, const Wanted& wanted);
  Block* add_segment(Pool& pool, Heap& heap, const AllocationRequest& request, const Wanted& wanted, uint64_t bytes);
  bool map(Pool& pool, const Heap::Growth& growth);
  void collect_garbage(const Heap& heap, const AllocationRequest& request, const Wanted& wanted, uint64_t new_bytes);
  void settle();
  /// Of `heap`, null: of all, the longest free first, until it is enough or no more is left. Returns the bytes.
  uint64_t release(uint64_t bytes, const Heap* heap);
  bool wait_for_work(std::unique_lock<std::mutex>& lock);
  [[noreturn]] void fail(const AllocationRequest& request, const Wanted& wanted);
  AllocatorSnapshot summary_locked() const;
  AllocatorSnapshot snapshot_locked() const;
  void count_segment(Pool& pool, TraceKind kind, uint64_t address, uint64_t bytes) noexcept;
  template <typename Change>
  void count(Pool& pool, const Change& change) noexcept {
    change(pool.statistics);
    change(statistics_);
  }

  mutable std::mutex mutex_;
  SegmentSource& source_;
  Names names_;
  std::map<std::string, Pool> pools_;
  AllocatorStatistics statistics_;
  std::vector<uint64_t> live_bytes_by_tag_;  // by number
  AllocationTrace trace_;
  uint64_t frees_ = 0;
};

}  // namespace spillway::device
