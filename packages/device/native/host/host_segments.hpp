// Where the host device's allocator gets its segments: extents of the memory file, mapped.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "../allocator/segment_source.hpp"
#include "check/access_history.hpp"
#include "memory_file.hpp"

namespace spillway::device::host {

class HostDevice;

class HostSegments final : public SegmentSource {
 public:
  explicit HostSegments(HostDevice& device) : device_(device) {}

  uint64_t granule_bytes() const override { return MemoryFile::page_bytes(); }
  // Pages can be guarded, and a page too much shows.
  uint64_t block_granule_bytes() const override { return MemoryFile::page_bytes(); }
  uint64_t limit_bytes() const override;
  uint64_t available_bytes() override;
  std::string situation() override;

  uint64_t create(uint64_t bytes, const std::string& pool) override;
  void destroy(uint64_t address, uint64_t bytes, const std::string& pool) noexcept override;

  uint64_t map_granule_bytes() const override { return 2 << 20; }
  uint64_t reserve(uint64_t bytes) override;
  void unreserve(uint64_t address, uint64_t bytes) noexcept override;
  void map(uint64_t address, uint64_t bytes) override;
  void unmap(uint64_t address, uint64_t bytes) noexcept override;

  /// Live memory of a segment. What it returns lives as long as that memory.
  struct Place {
    AccessHistory* history;  // null: order is not checked
    uint64_t offset;         // in the history
  };
  Place find(uint64_t address);
  /// Where its bytes lie in the memory file.
  using Visit = std::function<void(int descriptor, uint64_t in_file, uint64_t bytes, uint64_t in_range)>;
  void visit(uint64_t address, uint64_t bytes, const Visit& visit);

 private:
  struct Segment {
    Mapping mapping;
    std::map<uint64_t, MemoryFile::Extent> extents;  // by address
    std::unique_ptr<AccessHistory> history;
  };
  Segment& segment_of(uint64_t address) { return std::prev(segments_.upper_bound(address))->second; }
  std::unique_ptr<AccessHistory> make_history(uint64_t bytes) const;

  HostDevice& device_;
  std::mutex mutex_;
  std::map<uint64_t, Segment> segments_;  // by address
};

}  // namespace spillway::device::host
