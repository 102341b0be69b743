// The host device: a device made of the CPU's threads and memory. Real streams, events, copies, limits and graphs, so
// that offloading can be developed, tested and trusted on a machine without a GPU.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "../device.hpp"
#include "link.hpp"
#include "memory_file.hpp"
#include "thread_pool.hpp"
#include "work_queue.hpp"

namespace spillway::device::host {

struct HostDeviceOptions {
  uint64_t memory_limit_bytes;
  uint32_t threads;
  LinkOptions link;
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(const HostDeviceOptions& options);

  std::string name() const override;
  Stream* create_stream(uint32_t priority) override;
  Event* create_event() override;
  Buffer* create_buffer(uint32_t storage, uint64_t bytes, const std::string& tag, Stream* stream) override;
  void close(std::function<void()> done) override;
  uint64_t virtual_memory_granularity() const override;
  AddressRange* reserve(uint64_t bytes) override;
  PhysicalMemory* create_physical(uint64_t bytes, const std::string& tag) override;

  /// Pages for device memory; bytes: whole pages, charged already. Throws OUT_OF_MEMORY when the system has none.
  MemoryFile::Extent take_memory(uint64_t bytes);
  ThreadPool& pool() { return pool_; }
  Link& link_to_device() { return link_to_device_; }
  Link& link_to_host() { return link_to_host_; }

  /// Throws CLOSED after close().
  void check_open(const char* call) const;
  /// close() waits for it.
  void register_queue(const std::shared_ptr<WorkQueue>& queue);

 private:
  MemoryFile memory_;
  ThreadPool pool_;
  Link link_to_device_;
  Link link_to_host_;
  std::atomic<bool> closed_{false};
  std::mutex mutex_;
  std::vector<std::weak_ptr<WorkQueue>> queues_;
};

}  // namespace spillway::device::host
