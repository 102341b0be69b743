#include "allocator_settings.hpp"

#include <algorithm>
#include <bit>

#include "size_class.hpp"

namespace spillway::device {

static uint32_t divisions_for(uint64_t bytes, const AllocatorSettings& settings) {
  constexpr int kFirst = 20;  // log2 of 1 MiB
  const int power = static_cast<int>(std::bit_width(bytes)) - 1;
  const int interval = std::clamp(power - kFirst, 0, static_cast<int>(AllocatorSettings::kIntervals) - 1);
  return settings.roundup_power2_divisions[static_cast<size_t>(interval)];
}

uint64_t block_bytes(uint64_t requested_bytes, const AllocatorSettings& settings) {
  if (requested_bytes > (1ull << 63) - kBlockGranuleBytes) return 0;
  const uint64_t bytes = std::max(round_up_to(requested_bytes, kBlockGranuleBytes), kBlockGranuleBytes);
  const uint64_t divisions = divisions_for(bytes, settings);
  if (divisions <= 1) return bytes;
  const uint64_t step = std::bit_floor(bytes) / divisions;
  return step <= kBlockGranuleBytes ? bytes : round_up_to(bytes, step);
}

}  // namespace spillway::device
