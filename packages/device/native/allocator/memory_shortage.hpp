// Why an allocation found no memory, and which setting would have avoided it.
#pragma once

#include <string>

#include "allocator_settings.hpp"
#include "allocator_snapshot.hpp"

namespace spillway::device {

enum class HelpfulSetting : uint8_t { kNone, kMaxSplitSize, kExpandableSegments, kRoundupPower2Divisions };

struct MemoryShortage {
  uint64_t wanted_bytes;    // of the block
  uint64_t capacity_bytes;  // what the allocator holds and what is left
  uint64_t resident_bytes;  // in live blocks
  uint64_t cached_bytes;    // in free ones, of segments that could not be given back
  uint64_t largest_free_block_bytes;
  HelpfulSetting helpful;

  /// What is resident, cached and fragmented, and what would have helped.
  std::string text() const;
  /// `situation`: of the source, may be empty.
  [[noreturn]] void fail(uint64_t requested_bytes, uint64_t total_bytes, const std::string& situation) const;
};

/// After all that can be given back was. `settings`: the request's. A setting helps when the live blocks of the
/// snapshot, laid out as it would have laid them out, leave room for the request.
MemoryShortage explain_shortage(const AllocatorSnapshot& snapshot, uint64_t wanted_bytes, uint64_t capacity_bytes,
                                const AllocatorSettings& settings);

}  // namespace spillway::device
