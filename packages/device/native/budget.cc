#include "budget.hpp"

#include <algorithm>
#include <vector>

#include "failure.hpp"

namespace spillway::device {

std::string format_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text;
}

void Budget::charge(uint64_t bytes, const std::string& tag) {
  std::unique_lock lock(mutex_);
  if (bytes > limit_ - physical_bytes() && held_ > in_blocks_ && reclaim_) {
    lock.unlock();
    reclaim_();
    lock.lock();
  }
  if (bytes > limit_ - physical_bytes()) fail_locked(bytes, limit_ - physical_bytes(), "");
  add(bytes, tag);
}

void Budget::refund(uint64_t bytes, const std::string& tag) noexcept {
  std::lock_guard lock(mutex_);
  subtract(bytes, tag);
}

void Budget::hold_segment(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  if (bytes > limit_ - physical_bytes()) fail_locked(bytes, limit_ - physical_bytes(), "");
  held_ += bytes;
}

void Budget::drop_segment(uint64_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  held_ -= bytes;
}

void Budget::use_block(uint64_t bytes, const std::string& tag) {
  std::lock_guard lock(mutex_);
  add(bytes, tag);
  in_blocks_ += bytes;
}

void Budget::free_block(uint64_t bytes, const std::string& tag) noexcept {
  std::lock_guard lock(mutex_);
  subtract(bytes, tag);
  in_blocks_ -= bytes;
}

void Budget::add(uint64_t bytes, const std::string& tag) {
  used_by_tag_[tag] += bytes;
  used_ += bytes;
  peak_ = std::max(peak_, used_);
}

void Budget::subtract(uint64_t bytes, const std::string& tag) noexcept {
  used_ -= bytes;
  auto entry = used_by_tag_.find(tag);
  entry->second -= bytes;
  if (entry->second == 0) used_by_tag_.erase(entry);
}

Budget::Reading Budget::reading() const {
  std::lock_guard lock(mutex_);
  return {limit_, used_, peak_, held_ - in_blocks_};
}

uint64_t Budget::rest_bytes() const {
  std::lock_guard lock(mutex_);
  return limit_ - used_;
}

uint64_t Budget::segment_rest_bytes() const {
  std::lock_guard lock(mutex_);
  return limit_ - physical_bytes();
}

std::map<std::string, uint64_t> Budget::used_by_tag() const {
  std::lock_guard lock(mutex_);
  return used_by_tag_;
}

std::string Budget::situation(uint64_t system_bytes) const {
  std::lock_guard lock(mutex_);
  const std::string holders = holders_locked();
  std::string text =
      system_bytes < limit_ - physical_bytes() ? "the limit would allow more, the system has none left" : "";
  if (!holders.empty()) text += (text.empty() ? "held by " : "; held by ") + holders;
  return text;
}

std::string Budget::holders_locked() const {
  std::vector<std::pair<uint64_t, std::string>> holders;
  for (const auto& [tag, held] : used_by_tag_) holders.emplace_back(held, tag);
  std::sort(holders.rbegin(), holders.rend());
  std::string text;
  for (size_t i = 0; i < holders.size() && i < 4; ++i) {
    text += (i ? ", " : "") + holders[i].second + " " + format_bytes(holders[i].first);
  }
  return text;
}

void Budget::fail_out_of_memory(uint64_t bytes, uint64_t available_bytes) const {
  std::lock_guard lock(mutex_);
  const uint64_t free = limit_ - physical_bytes() + bytes;
  fail_locked(bytes, std::min(free, available_bytes), " (the limit would allow it, the system has none left)");
}

void Budget::fail_locked(uint64_t bytes, uint64_t free, const char* why) const {
  spillway_error error = empty_error();
  error.status = SPILLWAY_STATUS_OUT_OF_MEMORY;
  error.requested_bytes = bytes;
  error.free_bytes = free;
  error.total_bytes = limit_;
  const std::string holders = holders_locked();
  const std::string held = holders.empty() ? "" : "; held by " + holders;
  std::snprintf(error.call, sizeof error.call, "buffer_create");
  std::snprintf(error.message, sizeof error.message,
                "out of device memory%s: %s requested, %s free of %s%s. Offload more weights, shorten the context, or "
                "raise the device memory limit",
                why, format_bytes(bytes).c_str(), format_bytes(free).c_str(), format_bytes(limit_).c_str(),
                held.c_str());
  throw StatusError(error);
}

}  // namespace spillway::device
