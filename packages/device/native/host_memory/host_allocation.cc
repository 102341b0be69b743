#include "host_allocation.hpp"

#include <algorithm>

#include "../budget.hpp"
#include "../failure.hpp"
#include "host_memory_account.hpp"

namespace spillway::device {

void check_buffer_bytes(uint64_t bytes) {
  if (bytes > 0 && bytes <= (uint64_t{1} << 52)) return;
  fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "buffer_create", "a buffer has from 1 to 2^52 bytes, not %llu",
       static_cast<unsigned long long>(bytes));
}

void check_registration_bytes(uint32_t storage, uint64_t bytes) {
  constexpr uint64_t kMost = uint64_t{64} << 30;
  if (storage == SPILLWAY_STORAGE_PAGEABLE || bytes <= kMost) return;
  fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "buffer_create",
       "a pinned or mapped buffer has at most 64 GiB, not %s: make several, with allocateHostParts",
       format_bytes(bytes).c_str());
}

void HostAllocation::reserve(uint32_t storage, uint64_t bytes) {
  if (granted_) return;
  HostMemoryAccount::of_process().reserve(bytes, storage == SPILLWAY_STORAGE_PAGEABLE);
  reserved_.store(bytes);
  granted_ = true;
}

void HostAllocation::took(uint64_t bytes) noexcept {
  taken_.fetch_add(bytes, std::memory_order_relaxed);
  uint64_t reserved = reserved_.load();
  uint64_t counted = 0;
  do {
    counted = std::min(reserved, bytes);  // the last page is rounded up
  } while (!reserved_.compare_exchange_weak(reserved, reserved - counted));
  HostMemoryAccount::of_process().refund(counted);
}

void HostAllocation::give_back() noexcept { HostMemoryAccount::of_process().refund(reserved_.exchange(0)); }

}  // namespace spillway::device
