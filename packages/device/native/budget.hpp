// Counts physical device bytes below every way to get them, against a limit.
#pragma once

#include <cstdint>
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
  };

  /// Throws SPILLWAY_STATUS_OUT_OF_MEMORY and charges nothing when the limit would be passed.
  void charge(uint64_t bytes, const std::string& tag);
  void refund(uint64_t bytes, const std::string& tag) noexcept;
  Reading reading() const;
  uint64_t rest_bytes() const;
  std::map<std::string, uint64_t> used_by_tag() const;
  /// The error for memory that was charged but that the system, with `available_bytes` left, does not have.
  [[noreturn]] void fail_out_of_memory(uint64_t bytes, uint64_t available_bytes) const;

 private:
  [[noreturn]] void fail_locked(uint64_t bytes, uint64_t free, const char* why) const;

  mutable std::mutex mutex_;
  const uint64_t limit_;
  uint64_t used_ = 0;
  uint64_t peak_ = 0;
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
