// Memory and streams that are made up: addresses without bytes, work that is done when the test says so.
#pragma once

#include <allocator/marker.hpp>
#include <allocator/segment_source.hpp>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace allocator_probe {

using spillway::device::Marker;
using spillway::device::SegmentSource;
using spillway::device::StreamId;

struct SourceEvent {
  enum Kind : uint8_t { kCreate, kDestroy, kReserve, kUnreserve, kMap, kUnmap };
  Kind kind;
  uint64_t address;
  uint64_t bytes;
};

/// Not thread-safe, as a source need not be; TSan would see the allocator call it from two threads at a time.
class PlainSource final : public SegmentSource {
 public:
  PlainSource(uint64_t limit_bytes, uint64_t granule_bytes, uint64_t map_granule_bytes)
      : limit_(limit_bytes), granule_(granule_bytes), map_granule_(map_granule_bytes) {}

  uint64_t granule_bytes() const override { return granule_; }
  uint64_t limit_bytes() const override { return limit_; }
  // Segments of the usual sizes, however small the limit: tests make it small.
  uint64_t usual_limit_bytes() const override { return UINT64_MAX; }
  uint64_t available_bytes() override { return limit_ - used_; }
  uint64_t create(uint64_t bytes, const std::string& pool) override;
  void destroy(uint64_t address, uint64_t bytes, const std::string& pool) noexcept override;
  uint64_t map_granule_bytes() const override { return map_granule_; }
  uint64_t reserve(uint64_t bytes) override;
  void unreserve(uint64_t address, uint64_t bytes) noexcept override;
  void map(uint64_t address, uint64_t bytes) override;
  void unmap(uint64_t address, uint64_t bytes) noexcept override;

  uint64_t used_bytes() const { return used_; }
  uint64_t peak_bytes() const { return peak_; }
  uint64_t calls() const { return calls_; }
  /// The `call`-th call from now on that can fail does, out of memory or (`lost`) otherwise; 0: none.
  void fail_at(uint64_t call, bool lost) {
    fail_at_ = call == 0 ? 0 : calls_ + call;
    lost_ = lost;
  }
  std::vector<SourceEvent> take_events() { return std::exchange(events_, {}); }
  void keep_events(bool keep) { keep_events_ = keep; }

 private:
  void enter();
  uint64_t take_addresses(uint64_t bytes);
  void charge(uint64_t bytes);
  void add(SourceEvent event) noexcept;

  const uint64_t limit_;
  const uint64_t granule_;
  const uint64_t map_granule_;
  uint64_t used_ = 0;
  uint64_t peak_ = 0;
  uint64_t calls_ = 0;
  uint64_t fail_at_ = 0;
  bool lost_ = false;
  bool keep_events_ = true;
  uint64_t next_address_ = 1ull << 40;
  std::vector<SourceEvent> events_;
};

/// How far each stream is.
class PlainStreams {
 public:
  std::shared_ptr<Marker> marker(StreamId stream, uint64_t position);
  void complete(StreamId stream, uint64_t position);
  uint64_t completed(StreamId stream);

 private:
  using Progress = std::atomic<uint64_t>;
  std::shared_ptr<Progress> progress(StreamId stream);

  std::mutex mutex_;
  std::map<StreamId, std::shared_ptr<Progress>> progress_;
};

}  // namespace allocator_probe
