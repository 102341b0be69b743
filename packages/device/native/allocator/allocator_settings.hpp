// How an allocator serves one request. A value: whoever asks for memory has resolved it already (pool, scope, process).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace spillway::device {

struct AllocatorSettings {
  static constexpr uint64_t kUnlimited = UINT64_MAX;
  static constexpr uint64_t kLeastMaxSplitBytes = 20ull << 20;
  /// Powers of two from 1 MiB to 32 GiB: what lies below, or above, follows the first, or the last.
  static constexpr size_t kIntervals = 16;

  /// A free block of more bytes is kept whole for who needs (nearly) all of it. At least kLeastMaxSplitBytes. A request
  /// for more gets no part of a new expandable segment: what is free there is made of whatever was free.
  uint64_t max_split_bytes = kUnlimited;
  /// Segments that grow, through virtual memory. Ignored in a pool, and where there is no virtual memory.
  bool expandable_segments = false;
  /// Part of the limit, 0 … 1, above which free segments are given back before another is made. 0: never.
  double garbage_collection_threshold = 0;
  /// Requests between two powers of two are rounded up to one of this many steps; 0 or 1: to 512 bytes only. Powers of
  /// two themselves.
  std::array<uint32_t, kIntervals> roundup_power2_divisions{};
};

/// A block's size for a request: a multiple of 512, at least 512; 0 when that is more than 2^63.
uint64_t block_bytes(uint64_t requested_bytes, const AllocatorSettings& settings);

}  // namespace spillway::device
