#include "access_history.hpp"

#include <algorithm>
#include <iterator>

namespace spillway::device::host {

static bool ordered(const Stamp& earlier, const VectorClock& clock) { return clock.of(earlier.lane) >= earlier.time; }

static void add(std::vector<Conflict>& conflicts, Conflict conflict) {
  for (Conflict& other : conflicts) {
    // One report for what two operations do to a range, however finely earlier accesses cut it.
    if (other.kind == conflict.kind && other.earlier == conflict.earlier &&
        other.offset + other.bytes == conflict.offset) {
      other.bytes += conflict.bytes;
      return;
    }
  }
  conflicts.push_back(std::move(conflict));
}

AccessHistory::AccessHistory(uint64_t bytes, bool written) { segments_.emplace(0, Segment{bytes, written, {}, {}}); }

AccessHistory::Segments::iterator AccessHistory::split(uint64_t at) {
  auto segment = std::prev(segments_.upper_bound(at));
  if (segment->first == at || segment->second.end == at) {
    return segment->first == at ? segment : std::next(segment);
  }
  Segment rest = segment->second;
  segment->second.end = at;
  return segments_.emplace_hint(std::next(segment), at, std::move(rest));
}

void AccessHistory::merge(uint64_t begin, uint64_t end) {
  auto same = [](const Segment& a, const Segment& b) {
    return a.written == b.written && a.write.operation == b.write.operation && a.reads.size() == b.reads.size() &&
           std::equal(a.reads.begin(), a.reads.end(), b.reads.begin(),
                      [](const Stamp& x, const Stamp& y) { return x.operation == y.operation; });
  };
  auto segment = std::prev(segments_.upper_bound(begin));
  if (segment != segments_.begin()) --segment;
  while (true) {
    auto next = std::next(segment);
    if (next == segments_.end() || segment->first > end) return;
    if (same(segment->second, next->second)) {
      segment->second.end = next->second.end;
      segments_.erase(next);
    } else {
      segment = next;
    }
  }
}

void AccessHistory::read(uint64_t offset, uint64_t bytes, const Stamp& stamp, const VectorClock& clock, bool values,
                         std::vector<Conflict>& conflicts) {
  if (bytes == 0) return;
  const uint64_t end = offset + bytes;
  split(end);
  for (auto at = split(offset); at != segments_.end() && at->first < end; ++at) {
    Segment& segment = at->second;
    const uint64_t length = segment.end - at->first;
    if (segment.write.operation && !ordered(segment.write, clock)) {
      add(conflicts, {ViolationKind::kReadAfterWrite, segment.write.operation, at->first, length});
    }
    if (values && !segment.written) {
      add(conflicts, {ViolationKind::kReadBeforeWrite, nullptr, at->first, length});
      segment.written = true;  // said once
    }
    // Whoever comes after this read comes after those that it comes after.
    std::erase_if(segment.reads, [&](const Stamp& read) { return ordered(read, clock); });
    segment.reads.push_back(stamp);
  }
  merge(offset, end);
}

void AccessHistory::write(uint64_t offset, uint64_t bytes, const Stamp& stamp, const VectorClock& clock,
                          std::vector<Conflict>& conflicts) {
  if (bytes == 0) return;
  const uint64_t end = offset + bytes;
  split(end);
  for (auto at = split(offset); at != segments_.end() && at->first < end; ++at) {
    Segment& segment = at->second;
    const uint64_t length = segment.end - at->first;
    if (segment.write.operation && !ordered(segment.write, clock)) {
      add(conflicts, {ViolationKind::kWriteAfterWrite, segment.write.operation, at->first, length});
    }
    for (const Stamp& read : segment.reads) {
      if (!ordered(read, clock)) add(conflicts, {ViolationKind::kWriteAfterRead, read.operation, at->first, length});
    }
    segment.written = true;
    segment.write = stamp;
    segment.reads.clear();
  }
  merge(offset, end);
}

std::vector<AccessHistory::Piece> AccessHistory::written(uint64_t offset, uint64_t bytes) const {
  std::vector<Piece> pieces;
  const uint64_t end = offset + bytes;
  for (auto at = std::prev(segments_.upper_bound(offset)); at != segments_.end() && at->first < end; ++at) {
    const uint64_t from = std::max(at->first, offset);
    const uint64_t to = std::min(at->second.end, end);
    pieces.push_back({from, to - from, at->second.written});
  }
  return pieces;
}

void AccessHistory::restart(uint64_t offset, uint64_t bytes, const Stamp& stamp) {
  const uint64_t end = offset + bytes;
  split(end);
  for (auto at = split(offset); at != segments_.end() && at->first < end; ++at) {
    at->second.written = false;
    at->second.write = stamp;
    at->second.reads.clear();
  }
  merge(offset, end);
}

void AccessHistory::set_written(uint64_t offset, uint64_t bytes, bool written) {
  if (bytes == 0) return;
  const uint64_t end = offset + bytes;
  split(end);
  for (auto at = split(offset); at != segments_.end() && at->first < end; ++at) at->second.written = written;
  merge(offset, end);
}

}  // namespace spillway::device::host
