#include "host_segments.hpp"

#include <algorithm>
#include <utility>

#include "../system_memory.hpp"
#include "host_device.hpp"

namespace spillway::device::host {

uint64_t HostSegments::limit_bytes() const { return device_.budget().reading().limit_bytes; }

uint64_t HostSegments::available_bytes() {
  return std::min(device_.budget().segment_rest_bytes(), read_system_memory().available_bytes);
}

std::string HostSegments::situation() { return device_.budget().situation(available_bytes()); }

std::unique_ptr<AccessHistory> HostSegments::make_history(uint64_t bytes) const {
  return device_.checker() ? std::make_unique<AccessHistory>(bytes, false) : nullptr;
}

uint64_t HostSegments::create(uint64_t bytes, const std::string&) {
  device_.failures().pass(FailurePoint::kMapping, "buffer_create");
  device_.budget().hold_segment(bytes);
  try {
    MemoryFile::Extent extent = device_.take_memory(bytes);
    Segment segment{Mapping::of(extent), {}, make_history(bytes)};
    const auto address = reinterpret_cast<uint64_t>(segment.mapping.data());
    segment.extents.emplace(address, std::move(extent));
    std::lock_guard lock(mutex_);
    segments_.emplace(address, std::move(segment));
    return address;
  } catch (...) {
    device_.budget().drop_segment(bytes);
    throw;
  }
}

void HostSegments::destroy(uint64_t address, uint64_t bytes, const std::string&) noexcept {
  {
    std::lock_guard lock(mutex_);
    segments_.erase(address);
  }
  device_.budget().drop_segment(bytes);
}

uint64_t HostSegments::reserve(uint64_t bytes) {
  device_.failures().pass(FailurePoint::kMapping, "buffer_create");
  Segment segment{Mapping::reserved(bytes), {}, make_history(bytes)};
  const auto address = reinterpret_cast<uint64_t>(segment.mapping.data());
  std::lock_guard lock(mutex_);
  segments_.emplace(address, std::move(segment));
  return address;
}

void HostSegments::unreserve(uint64_t address, uint64_t) noexcept {
  std::lock_guard lock(mutex_);
  segments_.erase(address);
}

// An extent a granule: any of them can be given back by itself.
void HostSegments::map(uint64_t address, uint64_t bytes) {
  device_.budget().hold_segment(bytes);
  std::lock_guard lock(mutex_);
  Segment& segment = segment_of(address);
  uint64_t done = 0;
  try {
    for (; done < bytes; done += map_granule_bytes()) {
      device_.failures().pass(FailurePoint::kMapping, "buffer_create");
      MemoryFile::Extent extent = device_.take_memory(map_granule_bytes());
      segment.mapping.map(address + done, extent);
      segment.extents.emplace(address + done, std::move(extent));
    }
  } catch (...) {
    segment.mapping.unmap(address, done);
    for (uint64_t at = 0; at < done; at += map_granule_bytes()) segment.extents.erase(address + at);
    device_.budget().drop_segment(bytes);
    throw;
  }
}

void HostSegments::unmap(uint64_t address, uint64_t bytes) noexcept {
  {
    std::lock_guard lock(mutex_);
    Segment& segment = segment_of(address);
    segment.mapping.unmap(address, bytes);
    segment.extents.erase(segment.extents.lower_bound(address), segment.extents.lower_bound(address + bytes));
  }
  device_.budget().drop_segment(bytes);
}

HostSegments::Place HostSegments::find(uint64_t address) {
  std::lock_guard lock(mutex_);
  Segment& segment = segment_of(address);
  return {segment.history.get(), address - reinterpret_cast<uint64_t>(segment.mapping.data())};
}

void HostSegments::visit(uint64_t address, uint64_t bytes, const Visit& visit) {
  std::lock_guard lock(mutex_);
  Segment& segment = segment_of(address);
  const uint64_t end = address + bytes;
  for (auto it = std::prev(segment.extents.upper_bound(address)); it != segment.extents.end() && it->first < end;
       ++it) {
    const auto& [begin, extent] = *it;
    const uint64_t from = std::max(begin, address);
    const uint64_t to = std::min(begin + extent.bytes(), end);
    visit(extent.descriptor(), extent.offset() + (from - begin), to - from, from - address);
  }
}

}  // namespace spillway::device::host
