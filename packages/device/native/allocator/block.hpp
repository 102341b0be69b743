// A segment, which came from the source in one piece or grows, and the blocks that it is cut into, without gaps.
#pragma once

#include <set>
#include <string>

#include "marker.hpp"
#include "size_class.hpp"

namespace spillway::device {

struct Block;
struct Pool;

/// Free blocks that the same streams may have, smallest first: see FreeBlocks.
struct BlockKey {
  StreamId stream;
  StreamId preferred_by;
  uint64_t bytes;
  uint64_t address;
  auto operator<=>(const BlockKey&) const = default;
};
struct BlockOrder {
  using is_transparent = void;
  inline bool operator()(const Block* a, const Block* b) const;
  inline bool operator()(const Block* a, const BlockKey& b) const;
};
using BlockSet = std::set<Block*, BlockOrder>;

struct Segment {
  Pool* pool;
  SizeClass size_class;
  uint64_t address;
  /// With memory behind them.
  uint64_t bytes;
  /// Addresses of an expandable segment; 0 for one that does not grow.
  uint64_t reserved_bytes;
  /// The stream it was made for.
  StreamId home;
  Block* first;
  Block* last;

  bool expandable() const { return reserved_bytes != 0; }
  /// Whose requests look here first; kNoStream: everybody's. In a segment that grows, what other streams keep for long
  /// would lie between blocks that this one frees and wants again.
  StreamId preferred_by() const { return expandable() ? home : kNoStream; }
};

struct Block {
  Segment* segment;
  uint64_t address;
  uint64_t bytes;
  Block* previous = nullptr;
  Block* next = nullptr;
  bool live = false;
  /// Live: what was asked for, by whom, as what.
  uint64_t requested_bytes = 0;
  StreamId stream = kNoStream;
  uint32_t tag = 0;
  /// Free: where its last free was in the order of all.
  uint64_t freed_at = 0;
  /// Work that may not be done yet. A live block has what was left when it was taken, of its own stream.
  Uses uses;
  /// Which streams may have it at once. kNoStream: all; a stream: that one; kSeveralStreams: none.
  StreamId usable_by() const {
    return uses.empty() ? kNoStream : uses.size() == 1 ? uses.front().stream : kSeveralStreams;
  }
  BlockKey key() const { return {usable_by(), segment->preferred_by(), bytes, address}; }

  /// Free, and waiting for another stream than its segment's: not yet its segment's stream's again.
  bool waits_for_others() const {
    return !live && !uses.empty() && (uses.size() > 1 || uses.front().stream != segment->home);
  }
  /// Among those of its heap.
  Block* previous_waiting = nullptr;
  Block* next_waiting = nullptr;

  /// Its place among the free ones; while it is live the node of that place, so that freeing needs no memory.
  BlockSet::iterator place;
  BlockSet::node_type node;
};

inline bool BlockOrder::operator()(const Block* a, const Block* b) const { return a->key() < b->key(); }
inline bool BlockOrder::operator()(const Block* a, const BlockKey& b) const { return a->key() < b; }

}  // namespace spillway::device
