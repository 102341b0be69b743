// The host device: a device made of the CPU's threads and memory. Real streams, events, copies, limits and graphs, so
// that offloading can be developed, tested and trusted on a machine without a GPU.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "../allocator/caching_allocator.hpp"
#include "../device.hpp"
#include "adversary.hpp"
#include "check/twin_check.hpp"
#include "failure_injection.hpp"
#include "host_segments.hpp"
#include "link.hpp"
#include "memory_file.hpp"
#include "thread_pool.hpp"
#include "work_queue.hpp"

namespace spillway::device::host {

struct HostDeviceOptions {
  uint64_t memory_limit_bytes;
  uint32_t threads;
  LinkOptions link;
  std::optional<uint64_t> adversarial_seed;
  bool check = false;
  bool pins = true;                       // host memory can be pinned and mapped
  bool unified = false;                   // kernels read any host memory in place
  std::unique_ptr<SiteProbe> site_probe;  // of the checker
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(HostDeviceOptions options);
  ~HostDevice() override;

  std::string name() const override;
  Stream* create_stream(uint32_t priority) override;
  Event* create_event() override;
  Timestamp* create_timestamp() override;
  Buffer* create_device_buffer(const DeviceAllocation& allocation) override;
  Buffer* create_host_buffer(uint32_t storage, uint64_t bytes, HostAllocation& allocation) override;
  uint64_t available_bytes() override;
  CachingAllocator& allocator() override { return allocator_; }
  void close(std::function<void()> done) override;
  uint64_t virtual_memory_granularity() const override;
  AddressRange* reserve(uint64_t bytes) override;
  PhysicalMemory* create_physical(uint64_t bytes, const std::string& tag) override;

  /// Pages for device memory; bytes: whole pages, charged already. Throws OUT_OF_MEMORY when the system has none.
  MemoryFile::Extent take_memory(uint64_t bytes);
  HostSegments& segments() { return segments_; }
  MemoryFile& host_memory_file();
  ThreadPool& pool() { return pool_; }
  Link& link_to_device() { return link_to_device_; }
  Link& link_to_host() { return link_to_host_; }

  /// Throws CLOSED after close().
  void check_open(const char* call) const;
  std::shared_ptr<WorkQueue> create_queue(uint32_t priority);
  /// close() waits for it.
  void register_queue(const std::shared_ptr<WorkQueue>& queue);

  /// Whether kernels read memory of this kind in place.
  bool reaches(uint32_t storage) const {
    return unified_ || storage == SPILLWAY_STORAGE_DEVICE || storage == SPILLWAY_STORAGE_MAPPED;
  }
  FailureInjection& failures() { return failures_; }
  /// Null when nothing is checked; so is twin_check().
  OrderChecker* checker() { return checker_ ? &*checker_ : nullptr; }
  TwinCheck* twin_check() { return twin_check_ ? &*twin_check_ : nullptr; }
  /// What copies and kernels hold while they run when kernels are checked: one at a time.
  std::unique_lock<std::mutex> execution_turn() {
    return twin_check_ ? std::unique_lock(execution_) : std::unique_lock<std::mutex>();
  }

 private:
  FailureInjection failures_;
  std::optional<OrderChecker> checker_;
  std::optional<TwinCheck> twin_check_;
  std::mutex execution_;
  const bool pins_;
  const bool unified_;
  const std::shared_ptr<Adversary> adversary_;  // null: streams are threads
  MemoryFile memory_;
  std::optional<MemoryFile> host_memory_;
  HostSegments segments_{*this};
  CachingAllocator allocator_{segments_};
  ThreadPool pool_;
  Link link_to_device_;
  Link link_to_host_;
  std::atomic<bool> closed_{false};
  std::mutex mutex_;
  std::vector<std::weak_ptr<WorkQueue>> queues_;
};

}  // namespace spillway::device::host
