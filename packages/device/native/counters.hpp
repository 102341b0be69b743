// Counted where copies and allocations are done: what a backend says of itself is checked against these.
#pragma once

#include <spillway/abi.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace spillway::device {

struct Counters {
  std::atomic<uint64_t> host_to_device_bytes{0};
  std::atomic<uint64_t> host_to_device_copies{0};
  std::atomic<uint64_t> device_to_host_bytes{0};
  std::atomic<uint64_t> device_to_host_copies{0};
  std::atomic<uint64_t> device_to_device_bytes{0};
  std::atomic<uint64_t> host_to_host_bytes{0};
  std::atomic<uint64_t> launches{0};
  std::atomic<uint64_t> graph_launches{0};
  /// Live host bytes, indexed by SPILLWAY_STORAGE_*.
  std::atomic<uint64_t> host_storage_bytes[SPILLWAY_STORAGE_PAGEABLE + 1]{};

  void count_to_device(const std::string& tag, uint64_t bytes, uint64_t copies = 1) {
    host_to_device_bytes.fetch_add(bytes, std::memory_order_relaxed);
    host_to_device_copies.fetch_add(copies, std::memory_order_relaxed);
    std::lock_guard lock(mutex_);
    host_to_device_bytes_by_tag_[tag] += bytes;
  }
  std::map<std::string, uint64_t> host_to_device_by_tag() const {
    std::lock_guard lock(mutex_);
    return host_to_device_bytes_by_tag_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, uint64_t> host_to_device_bytes_by_tag_;
};

}  // namespace spillway::device
