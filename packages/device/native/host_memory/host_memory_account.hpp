// Host memory that was granted to somebody who has not touched all of it yet. The system counts only what was touched,
// so that two large allocations under way at once would both be told that there is room.
#pragma once

#include <cstdint>
#include <mutex>
#include <spillway/abi.hpp>
#include <string>

#include "memory_limits.hpp"

namespace spillway::device {

/// OUT_OF_MEMORY with the limit that would be passed.
class HostMemoryRefusal : public StatusError {
 public:
  HostMemoryRefusal(const spillway_error& error, std::string limit, uint64_t limit_bytes)
      : StatusError(error), limit_(std::move(limit)), limit_bytes_(limit_bytes) {}
  const std::string& limit() const { return limit_; }
  uint64_t limit_bytes() const { return limit_bytes_; }

 private:
  std::string limit_;
  uint64_t limit_bytes_;
};

/// Any thread.
class HostMemoryAccount {
 public:
  /// One for the process, as the memory is. Never destroyed: threads may still allocate when the process exits.
  static HostMemoryAccount& of_process();

  /// Throws HostMemoryRefusal, for the limit that leaves least, and reserves nothing.
  void reserve(uint64_t bytes, bool swappable);
  void refund(uint64_t bytes) noexcept;
  uint64_t reserved_bytes() const;

  /// Where limits are read from; for tests. See read_memory_limits.
  void read_from(std::string root);
  std::string root() const;

 private:
  mutable std::mutex mutex_;
  uint64_t reserved_ = 0;
  std::string root_;
};

}  // namespace spillway::device
