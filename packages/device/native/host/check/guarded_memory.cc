#include "guarded_memory.hpp"

#include <sys/mman.h>

#include <iterator>
#include <utility>

namespace spillway::device::host {

bool protect(uint8_t* begin, uint64_t bytes, int protection) noexcept {
  return mprotect(begin, bytes, protection) == 0;
}

bool empty(uint8_t* begin, uint64_t bytes, int protection) noexcept {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  return mmap(begin, bytes, protection, flags, -1, 0) != MAP_FAILED;
}

void GuardedMemory::add(const Mapping& mapping, std::string label) {
  regions_.insert_or_assign(mapping.data(), Region{mapping.bytes(), std::move(label), false});
  protect(mapping.data(), mapping.bytes(), PROT_NONE);
}

void GuardedMemory::retire(Mapping mapping) {
  auto region = regions_.find(mapping.data());
  if (region == regions_.end()) return;
  region->second.freed = true;
  // Without memory: what it held goes back to the system now.
  empty(mapping.data(), mapping.bytes(), PROT_NONE);
  retired_.push_back(std::move(mapping));
  if (retired_.size() > kMaximumRetired) {
    regions_.erase(retired_.front().data());
    retired_.pop_front();
  }
}

GuardedMemory::Place GuardedMemory::find(const uint8_t* address) const {
  auto region = regions_.upper_bound(const_cast<uint8_t*>(address));
  if (region == regions_.begin()) return {nullptr, nullptr};
  --region;
  if (address >= region->first + region->second.bytes) return {nullptr, nullptr};
  return {region->first, &region->second};
}

}  // namespace spillway::device::host
