// The segments of one pool and size class, and which of their blocks are free. Knows no source, no lock, no statistics.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "allocator_settings.hpp"
#include "block.hpp"

namespace spillway::device {

/// What a request asks of a heap.
struct Wanted {
  uint64_t bytes;  // of the block: block_bytes()
  StreamId stream;
  uint64_t max_split_bytes;
};

class Heap {
 public:
  Heap(Pool& pool, SizeClass size_class) : pool_(pool), size_class_(size_class) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap();

  /// The smallest free block that serves, of those `wanted.stream` may have at once; null: none. Not of what grows for
  /// other streams: find_elsewhere().
  Block* find(const Wanted& wanted) const;
  Block* find_elsewhere(const Wanted& wanted) const;
  /// Neighbours that only together are large enough: they are apart because some wait for this stream and some for
  /// none. Makes one of the fewest bytes; null: none.
  Block* join(const Wanted& wanted) noexcept;
  /// Takes a block that find() or join() found, or that was just made; what is not needed of it stays free. Throws
  /// std::bad_alloc, and changes nothing.
  void take(Block& block, const Wanted& wanted);
  /// `block.uses`: what must be done before others have it.
  void give(Block& block) noexcept;
  /// Forgets work that is done, and joins what that leaves equal. Throws std::bad_alloc, and nothing is lost.
  void settle(MarkerAnswers& answers);
  /// The same of blocks that wait for another stream than their segment's, of which most programs have none. One that
  /// is free and not seen to be makes the next request cut up a larger one.
  void settle_waiting(MarkerAnswers& answers);

  /// One free block. `home`: see Segment. Throws std::bad_alloc.
  Block& add_segment(uint64_t address, uint64_t bytes, uint64_t reserved_bytes, StreamId home);
  struct Growth {
    Segment* segment = nullptr;
    uint64_t bytes = 0;
  };
  /// The stream's expandable segment that can have a free block of `wanted.bytes` at its end, and how much it must grow
  /// for that, if at all; null: none.
  Growth growth(const Wanted& wanted, uint64_t granule) const;
  /// All of growing that can fail. Throws std::bad_alloc.
  std::unique_ptr<Block> prepare_growth(const Growth& growth) const;
  /// The free block at the segment's end, of `block`, if any, and what was free there before.
  Block& grow(Segment& segment, std::unique_ptr<Block> block, StreamId stream) noexcept;

  /// Bytes at the end of the block's segment, the block's, that nothing uses and that can be given back: all of a
  /// segment, or whole granules of an expandable one.
  static uint64_t releasable_bytes(const Block& block, uint64_t granule);
  /// They were given back: `bytes` of releasable_bytes. Returns true when the segment is gone.
  bool shrink(Block& block, uint64_t bytes) noexcept;

  struct Usage {
    uint64_t reserved_bytes = 0;
    uint64_t live_bytes = 0;
    uint64_t peak_live_bytes = 0;
  };
  const Usage& usage() const { return usage_; }
  /// An eighth more than was ever live, with the request: room for a loop to find again what it freed. Where large
  /// blocks are kept whole fewer requests can have one that is free, and a 64th has to do.
  uint64_t enough_bytes(const Wanted& wanted) const {
    const uint64_t most_live = std::max(usage_.peak_live_bytes, usage_.live_bytes + wanted.bytes);
    return most_live + most_live / (wanted.max_split_bytes == AllocatorSettings::kUnlimited ? 8 : 64);
  }
  const BlockSet& free_blocks() const { return free_; }
  const std::map<uint64_t, std::unique_ptr<Segment>>& segments() const { return segments_; }

 private:
  bool kept_whole(const Block& block, uint64_t max_split_bytes) const;
  /// A block that is large enough.
  bool serves(const Block& block, const Wanted& wanted) const;
  bool splits(const Block& block, const Wanted& wanted) const;
  void settle(std::vector<Block*> pending, MarkerAnswers& answers);
  void insert(Block& block) noexcept;
  void remove(Block& block) noexcept;
  void absorb_next(Block& block) noexcept;
  Block& join_neighbours(Block& block) noexcept;

  Pool& pool_;
  const SizeClass size_class_;
  std::map<uint64_t, std::unique_ptr<Segment>> segments_;
  BlockSet free_;
  Block* first_waiting_ = nullptr;
  Usage usage_;
};

}  // namespace spillway::device
