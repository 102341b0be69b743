// Where an allocator gets memory from: a device, or what a test makes up. Counting against a budget is done here.
#pragma once

#include <cstdint>
#include <string>

#include "size_class.hpp"

namespace spillway::device {

/// Called while the allocator is locked: must not call it. One allocator calls from one thread at a time.
class SegmentSource {
 public:
  virtual ~SegmentSource() = default;

  /// What the sizes asked for are multiples of: a multiple of 512, a power of two.
  virtual uint64_t granule_bytes() const = 0;
  /// What sizes of blocks are multiples of: a power of two, at least 512.
  virtual uint64_t block_granule_bytes() const { return kBlockGranuleBytes; }
  /// What all segments together may hold.
  virtual uint64_t limit_bytes() const = 0;
  /// What a segment may be larger than its first block up to: of little memory not much may lie idle, so that what fits
  /// by its bytes fits.
  virtual uint64_t usual_limit_bytes() const { return limit_bytes() / 64; }
  /// What it could still give.
  virtual uint64_t available_bytes() = 0;
  /// Why there is no more, and who has it, for a person; empty: not known.
  virtual std::string situation() { return {}; }

  /// The address, a multiple of 512. Throws SPILLWAY_STATUS_OUT_OF_MEMORY, or another status, which is passed on.
  virtual uint64_t create(uint64_t bytes, const std::string& pool) = 0;
  /// No work uses it any more.
  virtual void destroy(uint64_t address, uint64_t bytes, const std::string& pool) noexcept = 0;

  /// Of expandable segments; 0: there are none. A power of two, at least 512.
  virtual uint64_t map_granule_bytes() const { return 0; }
  /// Addresses without memory.
  virtual uint64_t reserve(uint64_t bytes) = 0;
  /// Nothing is mapped there.
  virtual void unreserve(uint64_t address, uint64_t bytes) noexcept = 0;
  /// Memory for addresses that have none: whole granules, all or, when it throws, none.
  virtual void map(uint64_t address, uint64_t bytes) = 0;
  /// Whole granules, of several map() calls or a part of one. No work uses them any more.
  virtual void unmap(uint64_t address, uint64_t bytes) noexcept = 0;
};

}  // namespace spillway::device
