// One request for host memory, of one buffer or several: what it was granted, how far it is, and whether anybody still
// wants it. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

namespace spillway::device {

/// Thrown where an allocation notices that it was cancelled.
class AllocationCancelled : public std::exception {
 public:
  const char* what() const noexcept override { return "the allocation was cancelled"; }
};

/// Throws INVALID_ARGUMENT for none, and for so many that rounding up to pages could overflow.
void check_buffer_bytes(uint64_t bytes);

/// A buffer is one registration: a driver was seen to refuse one of 512 GiB (vllm#51081). Throws INVALID_ARGUMENT for a
/// pinned or mapped buffer of more than 64 GiB. Comes after the limits: who has no memory for it hears that.
void check_registration_bytes(uint32_t storage, uint64_t bytes);

class HostAllocation {
 public:
  HostAllocation() = default;
  HostAllocation(const HostAllocation&) = delete;
  HostAllocation& operator=(const HostAllocation&) = delete;
  ~HostAllocation() { give_back(); }

  /// For all of it, before any of it is touched. storage: SPILLWAY_STORAGE_*. Throws HostMemoryRefusal. Once it is
  /// granted, again is nothing: whoever makes one buffer of several need not know.
  void reserve(uint32_t storage, uint64_t bytes);
  /// The system counts these itself from here on.
  void took(uint64_t bytes) noexcept;
  /// What was reserved and is not needed any more.
  void give_back() noexcept;

  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  void check() const {
    if (cancelled()) throw AllocationCancelled();
  }
  uint64_t taken_bytes() const { return taken_.load(std::memory_order_relaxed); }

 private:
  bool granted_ = false;
  std::atomic<bool> cancelled_{false};
  std::atomic<uint64_t> taken_{0};
  std::atomic<uint64_t> reserved_{0};
};

}  // namespace spillway::device
