// Counts physical device bytes below every way to get them, against a limit: memory of its own, by tag, and segments of
// the caching allocator, whose blocks are counted by tag while they are live and as cached otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>

namespace spillway::device {

class Budget {
 public:
  explicit Budget(uint64_t limit_bytes) : limit_(limit_bytes) {}

  struct Reading {
    uint64_t limit_bytes;
    uint64_t used_bytes;
    uint64_t peak_bytes;
    uint64_t cached_bytes;
  };

  /// Called without a lock when cached memory stands in the way of a charge: gives back what it can.
  void set_reclaim(std::function<void()> reclaim) { reclaim_ = std::move(reclaim); }
  /// Memory of its own. Throws SPILLWAY_STATUS_OUT_OF_MEMORY and charges nothing when the limit would be passed, even
  /// without what is cached.
  void charge(uint64_t bytes, const std::string& tag);
  void refund(uint64_t bytes, const std::string& tag) noexcept;

  /// A segment. Throws SPILLWAY_STATUS_OUT_OF_MEMORY and holds nothing when the limit would be passed.
  void hold_segment(uint64_t bytes);
  void drop_segment(uint64_t bytes) noexcept;
  /// A live block of a segment. Throws std::bad_alloc.
  void use_block(uint64_t bytes, const std::string& tag);
  void free_block(uint64_t bytes, const std::string& tag) noexcept;

  Reading reading() const;
  /// What the limit leaves, cached memory included.
  uint64_t rest_bytes() const;
  /// What it leaves for another segment.
  uint64_t segment_rest_bytes() const;
  std::map<std::string, uint64_t> used_by_tag() const;
  /// For a person, when `system_bytes` is what the system would still give: "held by weights 3.00 GiB".
  std::string situation(uint64_t system_bytes) const;
  /// The error for memory that was charged but that the system, with `available_bytes` left, does not have.
  [[noreturn]] void fail_out_of_memory(uint64_t bytes, uint64_t available_bytes) const;

 private:
  uint64_t physical_bytes() const { return used_ - in_blocks_ + held_; }
  std::string holders_locked() const;
  void add(uint64_t bytes, const std::string& tag);
  void subtract(uint64_t bytes, const std::string& tag) noexcept;
  [[noreturn]] void fail_locked(uint64_t bytes, uint64_t free, const char* why) const;

  mutable std::mutex mutex_;
  const uint64_t limit_;
  uint64_t used_ = 0;
  uint64_t peak_ = 0;
  uint64_t held_ = 0;       // by segments
  uint64_t in_blocks_ = 0;  // of used_: in segments
  std::function<void()> reclaim_;
  std::map<std::string, uint64_t> used_by_tag_;
};

/// A charge that is refunded unless kept: what a half-made allocation holds while its later steps may fail.
class Charge {
 public:
  Charge(Budget& budget, uint64_t bytes, std::string tag) : budget_(&budget), bytes_(bytes), tag_(std::move(tag)) {
    budget.charge(bytes_, tag_);
  }
  Charge(Charge&& other) noexcept : budget_(other.budget_), bytes_(other.bytes_), tag_(std::move(other.tag_)) {
    other.budget_ = nullptr;
  }
  Charge& operator=(Charge&&) = delete;
  ~Charge() {
    if (budget_) budget_->refund(bytes_, tag_);
  }

 private:
  Budget* budget_;
  uint64_t bytes_;
  std::string tag_;
};

/// "3.50 MiB"
std::string format_bytes(uint64_t bytes);

}  // namespace spillway::device
