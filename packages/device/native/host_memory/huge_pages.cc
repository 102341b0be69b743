#include "huge_pages.hpp"

#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "host_region.hpp"

namespace spillway::device {
namespace {

constexpr uint64_t kProbeBytes = 32 << 20;
// Below this it is noise.
constexpr double kWorthwhile = 1.15;

double seconds_to_touch(int advice) {
  const auto begin = std::chrono::steady_clock::now();
  HostRegion region(kProbeBytes, advice);
  region.touch_here(0, kProbeBytes);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

HugePages probe() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  const std::string setting{std::istreambuf_iterator<char>(file), {}};
  if (setting.empty()) return {false, "this kernel has no transparent huge pages"};
  if (setting.find("[never]") != std::string::npos) {
    return {false, "/sys/kernel/mm/transparent_hugepage/enabled is never"};
  }
  try {
    double huge = seconds_to_touch(MADV_HUGEPAGE);
    double small = seconds_to_touch(MADV_NOHUGEPAGE);
    small += seconds_to_touch(MADV_NOHUGEPAGE);
    huge += seconds_to_touch(MADV_HUGEPAGE);
    char reason[96];
    std::snprintf(reason, sizeof reason, "a probe got memory %.1f times as fast in huge pages", small / huge);
    return {small / huge >= kWorthwhile, reason};
  } catch (const std::exception& failure) {
    return {false, std::string("the probe failed: ") + failure.what()};
  }
}

std::atomic<const HugePages*> known{nullptr};

}  // namespace

const HugePages& huge_pages() {
  // Never destroyed: threads may still allocate when the process exits.
  static const auto* probed = new HugePages(probe());
  known.store(probed, std::memory_order_release);
  return *probed;
}

const HugePages* known_huge_pages() { return known.load(std::memory_order_acquire); }

}  // namespace spillway::device
