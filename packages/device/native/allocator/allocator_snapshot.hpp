// What an allocator holds at one moment, as plain values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "marker.hpp"
#include "size_class.hpp"

namespace spillway::device {

/// Of a pool, or of all.
struct AllocatorStatistics {
  /// In segments: what the source was asked for.
  uint64_t reserved_bytes = 0;
  /// In live blocks.
  uint64_t live_bytes = 0;
  /// Asked for in live blocks; the rest of them is rounding.
  uint64_t requested_bytes = 0;
  uint64_t peak_reserved_bytes = 0;
  uint64_t peak_live_bytes = 0;
  uint64_t peak_requested_bytes = 0;
  uint64_t allocations = 0;
  uint64_t frees = 0;
  uint64_t segments_created = 0;  // growing an expandable one counts
  uint64_t segments_destroyed = 0;
  uint64_t out_of_memory = 0;

  uint64_t cached_bytes() const { return reserved_bytes - live_bytes; }
};

/// kPending: free, while work that may not be done keeps it from some streams.
enum class BlockState : uint8_t { kLive, kIdle, kPending };

struct BlockSnapshot {
  uint64_t address;
  uint64_t bytes;
  uint64_t requested_bytes;  // live
  BlockState state;
  std::vector<StreamId> streams;  // live: whose it is; pending: whose work
  std::string tag;                // live
};

struct SegmentSnapshot {
  uint64_t address;
  uint64_t bytes;
  std::string pool;  // empty: the default one
  SizeClass size_class;
  bool expandable;
  std::vector<BlockSnapshot> blocks;  // by address, without gaps
};

struct AllocatorSnapshot {
  AllocatorStatistics total;
  std::map<std::string, AllocatorStatistics> pools;
  /// Live bytes by tag.
  std::map<std::string, uint64_t> live_bytes_by_tag;
  std::vector<SegmentSnapshot> segments;
};

}  // namespace spillway::device
