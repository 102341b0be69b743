#include "host_memory_account.hpp"

#include <algorithm>

#include "../budget.hpp"

namespace spillway::device {

HostMemoryAccount& HostMemoryAccount::of_process() {
  static auto* account = new HostMemoryAccount;
  return *account;
}

static HostMemoryRefusal refusal(uint64_t bytes, const MemoryLimit& limit, uint64_t free, uint64_t reserved) {
  spillway_error error = empty_error();
  error.status = SPILLWAY_STATUS_OUT_OF_MEMORY;
  error.requested_bytes = bytes;
  error.free_bytes = free;
  error.total_bytes = limit.limit_bytes;
  const std::string others =
      reserved == 0 ? "" : " (" + format_bytes(reserved) + " more is being allocated at this moment)";
  std::snprintf(error.call, sizeof error.call, "buffer_create");
  std::snprintf(error.message, sizeof error.message,
                "out of host memory: %s requested, %s is left of %s, the limit %s%s. To raise it, %s",
                format_bytes(bytes).c_str(), format_bytes(free).c_str(), format_bytes(limit.limit_bytes).c_str(),
                limit.name.c_str(), others.c_str(), limit.remedy.c_str());
  return {error, limit.name, limit.limit_bytes};
}

void HostMemoryAccount::reserve(uint64_t bytes, bool swappable) {
  std::lock_guard lock(mutex_);
  const auto left = [&](const MemoryLimit& limit) {
    const uint64_t available = limit.available_bytes + (swappable ? limit.swap_bytes : 0);
    return available - std::min(available, reserved_);
  };
  // Under the lock: what others touch while the files are read is counted twice for a moment, never not at all.
  const std::vector<MemoryLimit> limits = read_memory_limits(root_);
  const auto least = std::min_element(limits.begin(), limits.end(),
                                      [&](const auto& one, const auto& other) { return left(one) < left(other); });
  if (least != limits.end() && bytes > left(*least)) throw refusal(bytes, *least, left(*least), reserved_);
  reserved_ += bytes;
}

void HostMemoryAccount::refund(uint64_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  reserved_ -= bytes;
}

uint64_t HostMemoryAccount::reserved_bytes() const {
  std::lock_guard lock(mutex_);
  return reserved_;
}

void HostMemoryAccount::read_from(std::string root) {
  std::lock_guard lock(mutex_);
  root_ = std::move(root);
}

std::string HostMemoryAccount::root() const {
  std::lock_guard lock(mutex_);
  return root_;
}

}  // namespace spillway::device
