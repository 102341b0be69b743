#include "caching_allocator.hpp"

#include <algorithm>
#include <utility>

#include "../failure.hpp"
#include "memory_shortage.hpp"

namespace spillway::device {

CachingAllocator::~CachingAllocator() {
  // The work is done, whether or not anybody asked.
  for (auto& [name, pool] : pools_) {
    for (Heap* heap : {&pool.small, &pool.large}) {
      for (const auto& [address, segment] : heap->segments()) {
        if (segment->expandable()) {
          source_.unmap(address, segment->bytes);
          source_.unreserve(address, segment->reserved_bytes);
        } else {
          source_.destroy(address, segment->bytes, name);
        }
      }
    }
  }
}

Allocation CachingAllocator::allocate(const AllocationRequest& request) {
  const uint64_t bytes = round_up_to(block_bytes(request.bytes, request.settings), source_.block_granule_bytes());
  Wanted wanted{bytes, request.stream, request.settings.max_split_bytes};
  std::unique_lock lock(mutex_);
  const uint32_t tag = names_.number(request.tag);
  if (tag >= live_bytes_by_tag_.size()) live_bytes_by_tag_.resize(names_.size());
  if (bytes == 0 || bytes > source_.limit_bytes()) fail(request, wanted);
  Heap& heap = pool(request.pool).heap(size_class(bytes));
  MarkerAnswers answers;
  heap.settle_waiting(answers);
  Block* block = heap.find(wanted);
  if (!block) block = find_slowly(request, wanted, lock);
  Pool& owner = *block->segment->pool;
  owner.heap(block->segment->size_class).take(*block, wanted);
  block->requested_bytes = request.bytes;
  block->stream = request.stream;
  block->tag = tag;
  live_bytes_by_tag_[tag] += block->bytes;
  count(owner, [&](AllocatorStatistics& statistics) {
    statistics.live_bytes += block->bytes;
    statistics.requested_bytes += request.bytes;
    statistics.peak_live_bytes = std::max(statistics.peak_live_bytes, statistics.live_bytes);
    statistics.peak_requested_bytes = std::max(statistics.peak_requested_bytes, statistics.requested_bytes);
    ++statistics.allocations;
  });
  trace_.add(
      {TraceKind::kAllocate, tag, owner.number, request.stream, block->address, block->bytes, request.bytes, 0, 0});
  return {block->address, block->bytes, bytes, block};
}

// What is left of the work before this allocation is of one stream at most.
static void add_uses(Uses& uses, Uses& earlier) noexcept {
  for (Use& use : earlier) {
    const auto same = std::find_if(uses.begin(), uses.end(), [&](const Use& one) { return one.stream == use.stream; });
    if (same != uses.end()) {
      if (same->position < use.position) *same = std::move(use);
      continue;
    }
    try {
      uses.push_back(use);
    } catch (const std::bad_alloc&) {
      use.marker->wait();
    }
  }
  std::sort(uses.begin(), uses.end(), [](const Use& a, const Use& b) { return a.stream < b.stream; });
}

void CachingAllocator::free(const Allocation& allocation, Uses uses) noexcept {
  Block& block = *allocation.block;
  std::lock_guard lock(mutex_);
  Pool& owner = *block.segment->pool;
  add_uses(uses, block.uses);
  block.uses = std::move(uses);
  block.freed_at = ++frees_;
  live_bytes_by_tag_[block.tag] -= block.bytes;
  count(owner, [&](AllocatorStatistics& statistics) {
    statistics.live_bytes -= block.bytes;
    statistics.requested_bytes -= block.requested_bytes;
    ++statistics.frees;
  });
  trace_.add({TraceKind::kFree, block.tag, owner.number, block.stream, block.address, block.bytes,
              block.requested_bytes, 0, 0});
  owner.heap(block.segment->size_class).give(block);
}

Pool& CachingAllocator::pool(const std::string& name) {
  const auto found = pools_.find(name);
  if (found != pools_.end()) return found->second;
  return pools_.try_emplace(name, name, names_.number(name)).first->second;
}

Block* CachingAllocator::find_slowly(const AllocationRequest& request, Wanted& wanted,
                                     std::unique_lock<std::mutex>& lock) {
  for (;;) {
    Pool& from = pool(request.pool);
    Heap& heap = from.heap(size_class(wanted.bytes));
    if (Block* block = find_cached(heap, wanted)) return block;
    if (Block* block = grow(from, request, wanted)) return block;
    // Better a large block cut up, whoever wants it kept whole, than no memory.
    const uint64_t max_split_bytes = std::exchange(wanted.max_split_bytes, AllocatorSettings::kUnlimited);
    if (Block* block = find_cached(heap, wanted)) return block;
    wanted.max_split_bytes = max_split_bytes;
    // Others may have taken what was waited for, and work may have been added meanwhile: again from the start.
    if (!wait_for_work(lock)) fail(request, wanted);
  }
}

Block* CachingAllocator::find_cached(Heap& heap, const Wanted& wanted) {
  MarkerAnswers answers;
  heap.settle(answers);
  if (Block* block = heap.find(wanted)) return block;
  // Rather than growing without end; until then, streams that have segments of their own stay out of each other's way.
  if (heap.usage().reserved_bytes + wanted.bytes > heap.enough_bytes(wanted)) {
    if (Block* block = heap.find_elsewhere(wanted)) return block;
  }
  return heap.join(wanted);
}

void CachingAllocator::settle() {
  MarkerAnswers answers;
  for (auto& [name, pool] : pools_) {
    pool.small.settle(answers);
    pool.large.settle(answers);
  }
}

// False: there was none.
bool CachingAllocator::wait_for_work(std::unique_lock<std::mutex>& lock) {
  std::vector<std::shared_ptr<Marker>> markers;
  for (const auto& [name, pool] : pools_) {
    for (const Heap* heap : {&pool.small, &pool.large}) {
      for (auto it = heap->free_blocks().lower_bound(BlockKey{kNoStream + 1, 0, 0, 0}); it != heap->free_blocks().end();
           ++it) {
        for (const Use& use : (*it)->uses) markers.push_back(use.marker);
      }
    }
  }
  if (markers.empty()) return false;
  lock.unlock();
  for (const auto& marker : markers) marker->wait();
  lock.lock();
  return true;
}

void CachingAllocator::fail(const AllocationRequest& request, const Wanted& wanted) {
  Pool& from = pool(request.pool);
  const uint64_t granule = source_.granule_bytes();
  const uint64_t capacity = statistics_.reserved_bytes + source_.available_bytes() / granule * granule;
  const MemoryShortage shortage = explain_shortage(snapshot_locked(), wanted.bytes, capacity, request.settings);
  count(from, [](AllocatorStatistics& statistics) { ++statistics.out_of_memory; });
  trace_.add({TraceKind::kOutOfMemory, names_.number(request.tag), from.number, request.stream, 0, wanted.bytes,
              request.bytes, 0, 0});
  shortage.fail(std::max(request.bytes, wanted.bytes), source_.limit_bytes(), source_.situation());
}

uint64_t CachingAllocator::release_cached() {
  std::lock_guard lock(mutex_);
  settle();
  return release(UINT64_MAX, nullptr);
}

uint64_t CachingAllocator::release_cached(const std::string& name) {
  std::lock_guard lock(mutex_);
  const auto found = pools_.find(name);
  if (found == pools_.end()) return 0;
  MarkerAnswers answers;
  found->second.small.settle(answers);
  found->second.large.settle(answers);
  return release(UINT64_MAX, &found->second.small) + release(UINT64_MAX, &found->second.large);
}

void CachingAllocator::start_trace(size_t capacity) {
  std::lock_guard lock(mutex_);
  trace_.start(capacity);
}

CachingAllocator::Trace CachingAllocator::trace() const {
  std::lock_guard lock(mutex_);
  Trace trace{trace_.events(), {}, snapshot_locked()};
  for (uint32_t number = 0; number < names_.size(); ++number) trace.names.push_back(names_.name(number));
  return trace;
}

AllocatorSnapshot CachingAllocator::snapshot() const {
  std::lock_guard lock(mutex_);
  return snapshot_locked();
}

AllocatorSnapshot CachingAllocator::summary() const {
  std::lock_guard lock(mutex_);
  return summary_locked();
}

AllocatorSnapshot CachingAllocator::summary_locked() const {
  AllocatorSnapshot snapshot;
  snapshot.total = statistics_;
  for (uint32_t tag = 0; tag < live_bytes_by_tag_.size(); ++tag) {
    if (live_bytes_by_tag_[tag] > 0) snapshot.live_bytes_by_tag[names_.name(tag)] = live_bytes_by_tag_[tag];
  }
  for (const auto& [name, pool] : pools_) snapshot.pools.emplace(name, pool.statistics);
  return snapshot;
}

AllocatorSnapshot CachingAllocator::snapshot_locked() const {
  AllocatorSnapshot snapshot = summary_locked();
  for (const auto& [name, pool] : pools_) {
    for (const Heap* heap : {&pool.small, &pool.large}) {
      for (const auto& [address, segment] : heap->segments()) {
        SegmentSnapshot& to = snapshot.segments.emplace_back(
            SegmentSnapshot{address, segment->bytes, name, segment->size_class, segment->expandable(), {}});
        for (const Block* block = segment->first; block; block = block->next) {
          BlockSnapshot& one =
              to.blocks.emplace_back(BlockSnapshot{block->address, block->bytes, 0, BlockState::kIdle, {}, {}});
          if (block->live) {
            one.state = BlockState::kLive;
            one.requested_bytes = block->requested_bytes;
            one.streams = {block->stream};
            one.tag = names_.name(block->tag);
          } else if (!block->uses.empty()) {
            one.state = BlockState::kPending;
            for (const Use& use : block->uses) one.streams.push_back(use.stream);
          }
        }
      }
    }
  }
  return snapshot;
}

}  // namespace spillway::device
