#include "heap.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace spillway::device {

// A block kept whole may have this much more than who takes it needs: loaders ask for the same sizes again, or nearly.
static uint64_t slack_bytes(uint64_t bytes) { return std::min<uint64_t>(20ull << 20, bytes / 16); }

static bool usable(const Block& block, StreamId stream) {
  return !block.live && (block.uses.empty() || (block.usable_by() == stream && stream != kSeveralStreams));
}

// Work of the segment's own stream counts as done: it is who takes the memory again. Of work of others, the latest
// would count for all that is joined, and under steady work that would never be done.
static bool joinable(const Block& a, const Block& b) { return !a.waits_for_others() && !b.waits_for_others(); }

// A place among the free ones, made before it is needed. The block is as it will be then.
static BlockSet::node_type make_node(Block& block) {
  BlockSet set;
  return set.extract(set.insert(&block).first);
}

Heap::~Heap() {
  for (auto& [address, segment] : segments_) {
    for (Block* block = segment->first; block;) delete std::exchange(block, block->next);
  }
}

// Not in an expandable segment: what is free there is no block that somebody made, but all that is free together.
bool Heap::kept_whole(const Block& block, uint64_t max_split_bytes) const {
  return size_class_ == SizeClass::kLarge && block.bytes > max_split_bytes && !block.segment->expandable();
}

bool Heap::serves(const Block& block, const Wanted& wanted) const {
  return !kept_whole(block, wanted.max_split_bytes) || block.bytes - wanted.bytes <= slack_bytes(wanted.bytes);
}

bool Heap::splits(const Block& block, const Wanted& wanted) const {
  const uint64_t rest = block.bytes - wanted.bytes;
  if (size_class_ == SizeClass::kSmall || block.segment->expandable()) return rest > 0;
  // Less than any large request needs would be free for nobody.
  return rest >= kSmallestLargeBytes && !kept_whole(block, wanted.max_split_bytes);
}

// The end of a segment that grows is as large as anybody wants it: whoever finds another block leaves it alone, as
// PyTorch's allocator does.
static bool at_growing_end(const Block& block) { return block.segment->expandable() && !block.next; }

Block* Heap::find(const Wanted& wanted) const {
  Block* best = nullptr;
  const auto better = [&](const Block& block) {
    if (!best || at_growing_end(*best) != at_growing_end(block)) return !best || at_growing_end(*best);
    return block.bytes < best->bytes;
  };
  const auto look = [&](StreamId usable_by, StreamId preferred_by) {
    for (auto it = free_.lower_bound(BlockKey{usable_by, preferred_by, wanted.bytes, 0}); it != free_.end(); ++it) {
      Block* block = *it;
      if (block->usable_by() != usable_by || block->segment->preferred_by() != preferred_by) return;
      if (serves(*block, wanted) && better(*block)) best = block;
      // The next ones are larger.
      if (best && !at_growing_end(*best) && block->bytes >= best->bytes) return;
    }
  };
  look(kNoStream, kNoStream);
  if (wanted.stream == kNoStream) return best;
  look(kNoStream, wanted.stream);
  look(wanted.stream, kNoStream);
  look(wanted.stream, wanted.stream);
  return best;
}

Block* Heap::find_elsewhere(const Wanted& wanted) const {
  Block* best = nullptr;
  for (const StreamId usable_by : {kNoStream, wanted.stream}) {
    for (auto it = free_.lower_bound(BlockKey{usable_by, kNoStream, wanted.bytes, 0}); it != free_.end();) {
      Block* block = *it;
      if (block->usable_by() != usable_by) break;
      // Too small: the first one of another stream's segments. Else the smallest of this one's.
      StreamId next = block->segment->preferred_by();
      if (block->bytes >= wanted.bytes) {
        if (serves(*block, wanted) && (!best || block->bytes < best->bytes)) best = block;
        ++next;
      }
      it = free_.lower_bound(BlockKey{usable_by, next, wanted.bytes, 0});
    }
  }
  return best;
}

Block* Heap::join(const Wanted& wanted) noexcept {
  if (wanted.stream == kNoStream) return nullptr;
  Block* first = nullptr;
  uint64_t best = UINT64_MAX;
  // Idle neighbours are one block already: there is one of this stream in every run that counts.
  for (auto it = free_.lower_bound(BlockKey{wanted.stream, 0, 0, 0});
       it != free_.end() && (*it)->usable_by() == wanted.stream; ++it) {
    Block* begin = *it;
    while (begin->previous && usable(*begin->previous, wanted.stream)) begin = begin->previous;
    uint64_t bytes = 0;
    const Block* end = begin;
    for (; end && usable(*end, wanted.stream); end = end->next) bytes += end->bytes;
    const bool whole = bytes > wanted.max_split_bytes && !begin->segment->expandable();
    if (bytes < wanted.bytes || bytes >= best || (whole && bytes - wanted.bytes > slack_bytes(wanted.bytes))) continue;
    first = begin;
    best = bytes;
  }
  if (!first) return nullptr;
  while (first->next && usable(*first->next, wanted.stream)) absorb_next(*first);
  return first;
}

void Heap::take(Block& block, const Wanted& wanted) {
  if (splits(block, wanted)) {
    auto rest = std::make_unique<Block>();
    rest->segment = block.segment;
    rest->address = block.address + wanted.bytes;
    rest->bytes = block.bytes - wanted.bytes;
    rest->freed_at = block.freed_at;
    rest->uses = block.uses;
    rest->node = make_node(*rest);
    remove(block);
    rest->previous = &block;
    rest->next = block.next;
    (rest->next ? rest->next->previous : block.segment->last) = rest.get();
    block.next = rest.get();
    block.bytes = wanted.bytes;
    insert(*rest.release());
  } else {
    remove(block);
  }
  block.live = true;
  usage_.live_bytes += block.bytes;
  usage_.peak_live_bytes = std::max(usage_.peak_live_bytes, usage_.live_bytes);
}

void Heap::give(Block& block) noexcept {
  block.live = false;
  usage_.live_bytes -= block.bytes;
  insert(block);
  join_neighbours(block);
}

void Heap::settle(MarkerAnswers& answers) {
  settle({free_.lower_bound(BlockKey{kNoStream + 1, 0, 0, 0}), free_.end()}, answers);
}

void Heap::settle_waiting(MarkerAnswers& answers) {
  if (!first_waiting_) return;
  std::vector<Block*> waiting;
  for (Block* block = first_waiting_; block; block = block->next_waiting) waiting.push_back(block);
  settle(std::move(waiting), answers);
}

void Heap::settle(std::vector<Block*> pending, MarkerAnswers& answers) {
  // From the last address to the first: a block is absorbed by the one before it, so what is gone was looked at.
  std::sort(pending.begin(), pending.end(), [](const Block* a, const Block* b) { return a->address > b->address; });
  for (Block* block : pending) {
    const auto done = [&](const Use& use) { return answers.done(use); };
    // All are asked before anything changes: asking may need memory the first time.
    if (std::count_if(block->uses.begin(), block->uses.end(), done) == 0) continue;
    remove(*block);
    std::erase_if(block->uses, done);
    insert(*block);
    join_neighbours(*block);
  }
}

Block& Heap::add_segment(uint64_t address, uint64_t bytes, uint64_t reserved_bytes, StreamId home) {
  auto segment = std::make_unique<Segment>(Segment{&pool_, size_class_, address, bytes, reserved_bytes, home, {}, {}});
  auto block = std::make_unique<Block>();
  block->segment = segment.get();
  block->address = address;
  block->bytes = bytes;
  block->node = make_node(*block);
  segments_.emplace(address, std::move(segment));
  block->segment->first = block->segment->last = block.get();
  insert(*block);
  usage_.reserved_bytes += bytes;
  return *block.release();
}

Heap::Growth Heap::growth(const Wanted& wanted, uint64_t granule) const {
  for (const auto& [address, segment] : segments_) {
    if (!segment->expandable() || segment->home != wanted.stream) continue;
    uint64_t free = 0;
    for (Block* block = segment->last; block && usable(*block, wanted.stream); block = block->previous) {
      free += block->bytes;
    }
    const uint64_t bytes = wanted.bytes > free ? round_up_to(wanted.bytes - free, granule) : 0;
    if (bytes <= segment->reserved_bytes - segment->bytes) return {segment.get(), bytes};
  }
  return {};
}

std::unique_ptr<Block> Heap::prepare_growth(const Growth& growth) const {
  if (growth.bytes == 0) return nullptr;
  auto block = std::make_unique<Block>();
  block->segment = growth.segment;
  block->address = growth.segment->address + growth.segment->bytes;
  block->bytes = growth.bytes;
  block->node = make_node(*block);
  return block;
}

Block& Heap::grow(Segment& segment, std::unique_ptr<Block> block, StreamId stream) noexcept {
  if (block) {
    segment.bytes += block->bytes;
    usage_.reserved_bytes += block->bytes;
    block->previous = segment.last;
    (segment.last ? segment.last->next : segment.first) = block.get();
    segment.last = block.get();
    insert(*block.release());
  }
  Block* end = segment.last;
  while (end->previous && usable(*end->previous, stream)) {
    end = end->previous;
    absorb_next(*end);
  }
  return *end;
}

uint64_t Heap::releasable_bytes(const Block& block, uint64_t granule) {
  if (block.live || !block.uses.empty() || block.next) return 0;
  if (!block.segment->expandable()) return block.previous ? 0 : block.bytes;
  const uint64_t end = block.address + block.bytes;
  const uint64_t begin = round_up_to(block.address, granule);
  return begin < end ? end - begin : 0;
}

bool Heap::shrink(Block& block, uint64_t bytes) noexcept {
  Segment& segment = *block.segment;
  remove(block);
  segment.bytes -= bytes;
  usage_.reserved_bytes -= bytes;
  block.bytes -= bytes;
  if (block.bytes > 0) {
    insert(block);
    return false;
  }
  segment.last = block.previous;
  (block.previous ? block.previous->next : segment.first) = nullptr;
  delete &block;
  if (segment.last) return false;
  segments_.erase(segment.address);
  return true;
}

void Heap::insert(Block& block) noexcept {
  block.place = free_.insert(std::move(block.node)).position;
  if (!block.waits_for_others()) return;
  block.previous_waiting = nullptr;
  block.next_waiting = first_waiting_;
  if (first_waiting_) first_waiting_->previous_waiting = &block;
  first_waiting_ = &block;
}

void Heap::remove(Block& block) noexcept {
  block.node = free_.extract(block.place);
  if (!block.waits_for_others()) return;
  (block.previous_waiting ? block.previous_waiting->next_waiting : first_waiting_) = block.next_waiting;
  if (block.next_waiting) block.next_waiting->previous_waiting = block.previous_waiting;
}

// Both are free. The uses are of the same streams, or one has none.
void Heap::absorb_next(Block& block) noexcept {
  Block* next = block.next;
  remove(block);
  remove(*next);
  block.bytes += next->bytes;
  block.freed_at = std::max(block.freed_at, next->freed_at);
  if (block.uses.empty()) {
    block.uses = std::move(next->uses);
  } else if (!next->uses.empty()) {
    for (size_t i = 0; i < block.uses.size(); ++i) {
      if (next->uses[i].position > block.uses[i].position) block.uses[i] = std::move(next->uses[i]);
    }
  }
  block.next = next->next;
  (block.next ? block.next->previous : block.segment->last) = &block;
  delete next;
  insert(block);
}

Block& Heap::join_neighbours(Block& block) noexcept {
  if (block.next && !block.next->live && joinable(block, *block.next)) absorb_next(block);
  Block* previous = block.previous;
  if (!previous || previous->live || !joinable(*previous, block)) return block;
  absorb_next(*previous);
  return *previous;
}

}  // namespace spillway::device
