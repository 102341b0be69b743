// Small and large blocks lie in segments of their own, so that small ones that stay do not pin large ones. The sizes
// are those of PyTorch's CUDACachingAllocator, which users' expectations and settings are made for.
#pragma once

#include <cstdint>

namespace spillway::device {

/// Addresses and sizes of blocks are multiples of it.
inline constexpr uint64_t kBlockGranuleBytes = 512;

enum class SizeClass : uint8_t { kSmall, kLarge };
inline constexpr SizeClass kSizeClasses[] = {SizeClass::kSmall, SizeClass::kLarge};

inline uint64_t round_up_to(uint64_t bytes, uint64_t granule) { return (bytes + granule - 1) / granule * granule; }

inline constexpr uint64_t kSmallestLargeBytes = (1ull << 20) + 1;

inline SizeClass size_class(uint64_t block_bytes) {
  return block_bytes < kSmallestLargeBytes ? SizeClass::kSmall : SizeClass::kLarge;
}

/// Of the segment made when no free block serves.
inline uint64_t segment_bytes(uint64_t block_bytes) {
  constexpr uint64_t kSmallSegment = 2ull << 20;
  constexpr uint64_t kMediumSegment = 20ull << 20;
  constexpr uint64_t kLeastOwnSegment = 10ull << 20;
  if (size_class(block_bytes) == SizeClass::kSmall) return kSmallSegment;
  return block_bytes < kLeastOwnSegment ? kMediumSegment : round_up_to(block_bytes, kSmallSegment);
}

}  // namespace spillway::device
