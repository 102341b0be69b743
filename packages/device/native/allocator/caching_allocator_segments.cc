// How the allocator gets segments from its source and gives them back.
#include <algorithm>
#include <spillway/abi.hpp>

#include "caching_allocator.hpp"

namespace spillway::device {

Block* CachingAllocator::grow(Pool& pool, const AllocationRequest& request, const Wanted& wanted) {
  Heap& heap = pool.heap(size_class(wanted.bytes));
  const AllocatorSettings& settings = request.settings;
  const bool expandable = settings.expandable_segments && wanted.bytes <= settings.max_split_bytes &&
                          pool.name.empty() && source_.map_granule_bytes() != 0;
  for (;;) {
    if (expandable) {
      if (Block* block = grow_expandable(pool, heap, wanted)) return block;
    } else {
      const uint64_t least = round_up_to(wanted.bytes, source_.granule_bytes());
      const uint64_t usual = std::max(
          least,
          round_up_to(std::min(segment_bytes(wanted.bytes), source_.usual_limit_bytes()), source_.granule_bytes()));
      if (Block* block = add_segment(pool, heap, request, wanted, usual)) return block;
      if (least < usual) {
        if (Block* block = add_segment(pool, heap, request, wanted, least)) return block;
      }
    }
    settle();
    if (release(wanted.bytes, nullptr) == 0) return nullptr;
  }
}

// Null: out of memory.
Block* CachingAllocator::add_segment(Pool& pool, Heap& heap, const AllocationRequest& request, const Wanted& wanted,
                                     uint64_t bytes) {
  collect_garbage(heap, request, wanted, bytes);
  uint64_t address = 0;
  try {
    address = source_.create(bytes, pool.name);
  } catch (const StatusError& refused) {
    if (refused.error().status != SPILLWAY_STATUS_OUT_OF_MEMORY) throw;
    return nullptr;
  }
  try {
    Block& block = heap.add_segment(address, bytes, 0, wanted.stream);
    count_segment(pool, TraceKind::kCreateSegment, address, bytes);
    return &block;
  } catch (...) {
    source_.destroy(address, bytes, pool.name);
    throw;
  }
}

// Null: out of memory.
Block* CachingAllocator::grow_expandable(Pool& pool, Heap& heap, const Wanted& wanted) {
  const uint64_t granule = source_.map_granule_bytes();
  Heap::Growth growth = heap.growth(wanted, granule);
  if (growth.segment) {
    auto block = heap.prepare_growth(growth);
    if (!map(pool, growth)) return nullptr;
    return &heap.grow(*growth.segment, std::move(block), wanted.stream);
  }
  // More addresses than there can be memory, so that holes in the middle leave room at the end.
  const uint64_t limit = source_.limit_bytes();
  const uint64_t reserved = round_up_to(std::max(wanted.bytes, limit) + limit / 8, granule);
  const uint64_t address = source_.reserve(reserved);
  const uint64_t bytes = round_up_to(wanted.bytes, granule);
  Segment place{&pool, size_class(wanted.bytes), address, 0, reserved, wanted.stream, nullptr, nullptr};
  bool mapped = false;
  try {
    mapped = map(pool, {&place, bytes});
    if (mapped) return &heap.add_segment(address, bytes, reserved, wanted.stream);
  } catch (...) {
    if (mapped) {
      source_.unmap(address, bytes);
      count_segment(pool, TraceKind::kDestroySegment, address, bytes);
    }
    source_.unreserve(address, reserved);
    throw;
  }
  source_.unreserve(address, reserved);
  return nullptr;
}

// False: out of memory.
bool CachingAllocator::map(Pool& pool, const Heap::Growth& growth) {
  if (growth.bytes == 0) return true;
  const uint64_t address = growth.segment->address + growth.segment->bytes;
  try {
    source_.map(address, growth.bytes);
  } catch (const StatusError& refused) {
    if (refused.error().status != SPILLWAY_STATUS_OUT_OF_MEMORY) throw;
    return false;
  }
  count_segment(pool, TraceKind::kCreateSegment, address, growth.bytes);
  return true;
}

// Before a segment of `new_bytes` is made. Segments of the same class that are free and no use for this request must
// not add up: loaders that free scratch and then need a larger one went to many times what was live.
void CachingAllocator::collect_garbage(const Heap& heap, const AllocationRequest& request, const Wanted& wanted,
                                       uint64_t new_bytes) {
  const auto release_above = [&](uint64_t bound, uint64_t reserved, const Heap* from) {
    if (reserved + new_bytes > bound && reserved > 0) release(reserved + new_bytes - bound, from);
  };
  release_above(heap.enough_bytes(wanted), heap.usage().reserved_bytes, &heap);
  if (request.settings.garbage_collection_threshold <= 0) return;
  settle();
  const double bound = request.settings.garbage_collection_threshold * static_cast<double>(source_.limit_bytes());
  release_above(static_cast<uint64_t>(bound), statistics_.reserved_bytes, nullptr);
}

uint64_t CachingAllocator::release(uint64_t bytes, const Heap* only) {
  struct Candidate {
    Block* block;
    uint64_t freed_at;
    uint64_t bytes;
  };
  std::vector<Candidate> candidates;
  const uint64_t granule = source_.map_granule_bytes();
  for (auto& [name, pool] : pools_) {
    for (Heap* heap : {&pool.small, &pool.large}) {
      if (only && only != heap) continue;
      for (Block* block : heap->free_blocks()) {
        if (block->usable_by() != kNoStream) break;  // these come first
        const uint64_t releasable = Heap::releasable_bytes(*block, granule);
        if (releasable > 0) candidates.push_back({block, block->freed_at, releasable});
      }
    }
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.freed_at < b.freed_at; });
  uint64_t released = 0;
  for (const auto& [block, freed_at, size] : candidates) {
    if (released >= bytes) break;
    const Segment& segment = *block->segment;
    Pool* pool = segment.pool;
    const uint64_t start = segment.address;
    const uint64_t address = block->address + block->bytes - size;
    const uint64_t reserved = segment.reserved_bytes;
    if (reserved == 0) {
      source_.destroy(address, size, pool->name);
    } else {
      source_.unmap(address, size);
    }
    if (pool->heap(segment.size_class).shrink(*block, size) && reserved != 0) source_.unreserve(start, reserved);
    count_segment(*pool, TraceKind::kDestroySegment, address, size);
    released += size;
  }
  return released;
}

void CachingAllocator::count_segment(Pool& pool, TraceKind kind, uint64_t address, uint64_t bytes) noexcept {
  count(pool, [&](AllocatorStatistics& statistics) {
    if (kind == TraceKind::kCreateSegment) {
      statistics.reserved_bytes += bytes;
      statistics.peak_reserved_bytes = std::max(statistics.peak_reserved_bytes, statistics.reserved_bytes);
      ++statistics.segments_created;
    } else {
      statistics.reserved_bytes -= bytes;
      ++statistics.segments_destroyed;
    }
  });
  trace_.add({kind, pool.number, pool.number, kNoStream, address, bytes, 0, 0, 0});
}

}  // namespace spillway::device
