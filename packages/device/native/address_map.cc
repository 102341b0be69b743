#include "address_map.hpp"

#include <algorithm>
#include <iterator>

#include "failure.hpp"

namespace spillway::device {

void AddressMap::map(uint64_t offset, PhysicalMemory& memory, const std::function<void()>& map) {
  if (offset % granularity_ != 0 || offset > bytes_ || memory.bytes() > bytes_ - offset) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "map",
         "%llu bytes at offset %llu do not fit a range of %llu bytes, or the offset is no multiple of %llu",
         static_cast<unsigned long long>(memory.bytes()), static_cast<unsigned long long>(offset),
         static_cast<unsigned long long>(bytes_), static_cast<unsigned long long>(granularity_));
  }
  std::lock_guard lock(mutex_);
  auto next = pieces_.lower_bound(offset);
  bool taken = next != pieces_.end() && next->first < offset + memory.bytes();
  if (next != pieces_.begin()) {
    auto before = std::prev(next);
    taken = taken || before->first + before->second->bytes() > offset;
  }
  if (taken) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "map", "part of this address range is mapped already");
  auto entry = pieces_.emplace(offset, Ref<PhysicalMemory>(&memory)).first;
  try {
    map();
  } catch (...) {
    pieces_.erase(entry);
    throw;
  }
}

void AddressMap::unmap(uint64_t offset, uint64_t bytes, const std::function<void(uint64_t, uint64_t)>& unmap) {
  std::lock_guard lock(mutex_);
  auto first = pieces_.lower_bound(offset);
  auto last = first;
  uint64_t end = offset;
  while (last != pieces_.end() && last->first == end && end - offset < bytes) {
    end += last->second->bytes();
    ++last;
  }
  if (bytes == 0 || end - offset != bytes) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "unmap", "memory is unmapped whole, as it was mapped; this range is not");
  }
  if (uses_ > 0) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "unmap",
         "enqueued work still uses this address range; synchronize its streams first");
  }
  while (first != last) {
    unmap(first->first, first->second->bytes());
    first = pieces_.erase(first);
  }
}

bool AddressMap::mapped_whole(uint64_t offset, uint64_t bytes) const {
  auto piece = pieces_.upper_bound(offset);
  if (piece == pieces_.begin()) return false;
  --piece;
  const uint64_t end = offset + bytes;
  uint64_t covered = offset;
  for (; piece != pieces_.end() && piece->first <= covered; ++piece) {
    covered = std::max(covered, piece->first + piece->second->bytes());
    if (covered >= end) return true;
  }
  return false;
}

void AddressMap::begin_use(uint64_t offset, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  if (!mapped_whole(offset, bytes)) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "enqueue",
         "no memory is mapped at the addresses of this buffer; map it (or wake its owner) first");
  }
  ++uses_;
}

void AddressMap::end_use() noexcept {
  std::lock_guard lock(mutex_);
  --uses_;
}

bool AddressMap::used() const {
  std::lock_guard lock(mutex_);
  return uses_ > 0;
}

void AddressMap::visit(uint64_t offset, uint64_t bytes, const Visit& visit) const {
  std::lock_guard lock(mutex_);
  const uint64_t end = offset + bytes;
  auto piece = pieces_.upper_bound(offset);
  if (piece != pieces_.begin()) --piece;
  for (; piece != pieces_.end() && piece->first < end; ++piece) {
    const uint64_t from = std::max(offset, piece->first);
    const uint64_t to = std::min(end, piece->first + piece->second->bytes());
    if (from < to) visit(*piece->second, from - piece->first, to - from, from - offset);
  }
}

void AddressMap::clear(const std::function<void(uint64_t, uint64_t)>& unmap) noexcept {
  std::lock_guard lock(mutex_);
  for (const auto& [offset, memory] : pieces_) unmap(offset, memory->bytes());
  pieces_.clear();
}

void AddressMap::check_part(uint64_t offset, uint64_t bytes) const {
  if (bytes == 0 || offset > bytes_ || bytes > bytes_ - offset) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "buffer", "%llu bytes at offset %llu lie outside a range of %llu bytes",
         static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(offset),
         static_cast<unsigned long long>(bytes_));
  }
}

}  // namespace spillway::device
