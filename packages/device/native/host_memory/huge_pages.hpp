// Whether memory is given faster in huge pages. On most machines several times; on one whose memory is in small pieces
// the kernel moves pages about to make a huge one, and it is several times slower (ik_llama.cpp#2010): so it is tried.
#pragma once

#include <cstdint>
#include <string>

namespace spillway::device {

inline constexpr uint64_t kHugePageBytes = 2 << 20;

struct HugePages {
  bool used;
  /// For a person.
  std::string reason;
};

/// Probes once a process, for some tens of milliseconds. Any thread.
const HugePages& huge_pages();
/// The same, or null while nobody has probed.
const HugePages* known_huge_pages();

}  // namespace spillway::device
