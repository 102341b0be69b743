#include "memory_shortage.hpp"

#include <algorithm>

#include "../budget.hpp"
#include "../failure.hpp"

namespace spillway::device {
namespace {

// Up to the end of the last live block: what lies between live ones is a hole anywhere.
uint64_t extent_bytes(const SegmentSnapshot& segment) {
  for (auto block = segment.blocks.rbegin(); block != segment.blocks.rend(); ++block) {
    if (block->state == BlockState::kLive) return block->address + block->bytes - segment.address;
  }
  return 0;
}

// Large blocks kept whole: of a segment that was cut up, what is live would lie in segments of its own.
uint64_t with_whole_blocks(const AllocatorSnapshot& snapshot) {
  uint64_t bytes = 0;
  for (const SegmentSnapshot& segment : snapshot.segments) {
    if (segment.bytes <= AllocatorSettings::kLeastMaxSplitBytes || segment.expandable || segment.blocks.size() == 1) {
      bytes += segment.bytes;
      continue;
    }
    uint64_t medium = 0;
    for (const BlockSnapshot& block : segment.blocks) {
      if (block.state != BlockState::kLive) continue;
      const uint64_t own = segment_bytes(block.bytes);
      // Those of less than a medium segment share them.
      if (own > block.bytes * 2) {
        medium += block.bytes;
      } else {
        bytes += own;
      }
    }
    bytes += round_up_to(medium, AllocatorSettings::kLeastMaxSplitBytes);
  }
  return bytes;
}

// Growing segments: no free ends, each size class by itself. Pools have none.
uint64_t with_expandable_segments(const AllocatorSnapshot& snapshot) {
  constexpr uint64_t kMapGranule = 2ull << 20;
  uint64_t bytes = 0;
  uint64_t extents[2] = {0, 0};
  for (const SegmentSnapshot& segment : snapshot.segments) {
    if (segment.expandable || !segment.pool.empty()) {
      bytes += segment.bytes;
    } else {
      extents[static_cast<size_t>(segment.size_class)] += extent_bytes(segment);
    }
  }
  return bytes + round_up_to(extents[0], kMapGranule) + round_up_to(extents[1], kMapGranule);
}

HelpfulSetting find_helpful(const AllocatorSnapshot& snapshot, const MemoryShortage& shortage,
                            const AllocatorSettings& settings) {
  const auto fits = [&](uint64_t reserved) {
    return reserved <= shortage.capacity_bytes && shortage.wanted_bytes <= shortage.capacity_bytes - reserved;
  };
  const bool rounds = std::any_of(settings.roundup_power2_divisions.begin(), settings.roundup_power2_divisions.end(),
                                  [](uint32_t divisions) { return divisions > 1; });
  const uint64_t rounding = snapshot.total.live_bytes - snapshot.total.requested_bytes;
  if (rounds && fits(snapshot.total.reserved_bytes - rounding)) return HelpfulSetting::kRoundupPower2Divisions;
  if (settings.max_split_bytes == AllocatorSettings::kUnlimited && fits(with_whole_blocks(snapshot))) {
    return HelpfulSetting::kMaxSplitSize;
  }
  if (!settings.expandable_segments && fits(with_expandable_segments(snapshot))) {
    return HelpfulSetting::kExpandableSegments;
  }
  return HelpfulSetting::kNone;
}

}  // namespace

MemoryShortage explain_shortage(const AllocatorSnapshot& snapshot, uint64_t wanted_bytes, uint64_t capacity_bytes,
                                const AllocatorSettings& settings) {
  MemoryShortage shortage{
      wanted_bytes, capacity_bytes, snapshot.total.live_bytes, snapshot.total.cached_bytes(), 0, {}};
  for (const SegmentSnapshot& segment : snapshot.segments) {
    for (const BlockSnapshot& block : segment.blocks) {
      if (block.state == BlockState::kLive) continue;
      shortage.largest_free_block_bytes = std::max(shortage.largest_free_block_bytes, block.bytes);
    }
  }
  shortage.helpful = find_helpful(snapshot, shortage, settings);
  return shortage;
}

std::string MemoryShortage::text() const {
  std::string text = format_bytes(resident_bytes) + " resident";
  if (cached_bytes > 0) {
    text +=
        ", " + format_bytes(cached_bytes) + " cached in pieces of at most " + format_bytes(largest_free_block_bytes);
  }
  switch (helpful) {
    case HelpfulSetting::kNone:
      return text;
    case HelpfulSetting::kMaxSplitSize:
      return text + ". maxSplitSizeMb: 20 would have kept large blocks whole and left room";
    case HelpfulSetting::kExpandableSegments:
      return text + ". expandableSegments: true would have left room";
    case HelpfulSetting::kRoundupPower2Divisions:
      return text + ". Without roundupPower2Divisions there would have been room";
  }
  return text;
}

void MemoryShortage::fail(uint64_t requested_bytes, uint64_t total_bytes, const std::string& situation) const {
  const uint64_t free = capacity_bytes - resident_bytes;
  const std::string why = situation.empty() ? "" : situation + "; ";
  spillway_error error = empty_error();
  error.status = SPILLWAY_STATUS_OUT_OF_MEMORY;
  error.requested_bytes = requested_bytes;
  error.free_bytes = free;
  error.total_bytes = total_bytes;
  std::snprintf(error.call, sizeof error.call, "buffer_create");
  std::snprintf(
      error.message, sizeof error.message,
      "out of device memory: %s requested, %s free of %s; %s%s. Offload more weights, shorten the context, or "
      "raise the device memory limit",
      format_bytes(requested_bytes).c_str(), format_bytes(free).c_str(), format_bytes(total_bytes).c_str(), why.c_str(),
      text().c_str());
  throw StatusError(error);
}

}  // namespace spillway::device
