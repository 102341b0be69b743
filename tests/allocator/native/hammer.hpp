// Several threads at one allocator, and the time of one call.
#pragma once

#include <allocator/caching_allocator.hpp>

#include "plain_source.hpp"

namespace allocator_probe {

using spillway::device::CachingAllocator;

/// Each thread is a stream; now and then one frees what another took, with work of both. Returns how often a byte was
/// two live blocks', or work's of a stream that the block was not for: 0.
uint64_t hammer(CachingAllocator& allocator, PlainStreams& streams, uint32_t threads, uint32_t rounds, uint32_t seed);

/// Of one call, without what reading the clock takes.
struct Measured {
  double median_ns;
  double p99_ns;
};
struct MeasuredCalls {
  Measured allocate;
  Measured free;
};
/// Cached allocations among `live` blocks of mixed sizes.
MeasuredCalls measure(CachingAllocator& allocator, PlainStreams& streams, uint32_t live, uint32_t rounds);

}  // namespace allocator_probe
