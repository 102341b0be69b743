// One NVIDIA GPU, over the driver API and the primary context, which other libraries of the process share.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "../allocator/caching_allocator.hpp"
#include "../device.hpp"
#include "cuda_segments.hpp"
#include "driver.hpp"
#include "module_cache.hpp"

namespace spillway::device::cuda {

class StreamQueue;
class CaptureRecord;

class CudaDevice final : public Device {
 public:
  /// limit_bytes: 0 for what the GPU has. Throws NOT_SUPPORTED with the reason when there is no such GPU.
  CudaDevice(int32_t index, uint64_t limit_bytes);
  ~CudaDevice() override;

  /// Throws NOT_SUPPORTED when the device is another one.
  static CudaDevice& of(Device& device, const char* call);

  std::string name() const override { return name_; }
  Stream* create_stream(uint32_t priority) override;
  Event* create_event() override;
  Timestamp* create_timestamp() override;
  Buffer* create_device_buffer(const DeviceAllocation& allocation) override;
  Buffer* create_host_buffer(uint32_t storage, uint64_t bytes, HostAllocation& allocation) override;
  std::optional<int> numa_node() const override { return numa_node_; }
  /// 0 once the device is lost.
  uint64_t available_bytes() override;
  CachingAllocator& allocator() override { return *allocator_; }
  void close(std::function<void()> done) override;
  uint64_t virtual_memory_granularity() const override { return granularity_; }
  AddressRange* reserve(uint64_t bytes) override;
  PhysicalMemory* create_physical(uint64_t bytes, const std::string& tag) override;

  /// Makes this device's context the calling thread's. Throws DEVICE_LOST once it is, and CLOSED after close().
  void enter(const char* call);
  /// The same without a check, for giving things back.
  void enter_to_free() noexcept;
  /// Throws StatusError for anything but success; remembers when the device is lost.
  void check(Result result, const char* call);
  Context context() const { return context_; }
  /// The driver's number for it.
  DeviceNumber number() const { return number_; }
  bool unified() const { return unified_; }
  int32_t compute_capability() const { return compute_capability_; }
  int32_t multiprocessors() const { return multiprocessors_; }
  int32_t stream_priority(uint32_t priority) const;

  ModuleCache& modules() { return modules_; }
  void register_queue(const std::shared_ptr<StreamQueue>& queue);
  /// Lets go of buffers whose work is done.
  void collect();
  /// The record of the capture with this number of the driver's; null: not ours.
  std::shared_ptr<CaptureRecord> capture(uint64_t id);
  void add_capture(uint64_t id, std::shared_ptr<CaptureRecord> record);
  void remove_capture(uint64_t id);

 private:
  std::vector<std::shared_ptr<StreamQueue>> queues();

  const DeviceNumber number_;
  Context context_ = nullptr;
  std::string name_;
  uint64_t granularity_ = 0;
  std::optional<int> numa_node_;
  bool unified_ = false;
  int32_t multiprocessors_ = 0;
  int32_t compute_capability_ = 0;
  int32_t lowest_priority_ = 0;
  int32_t highest_priority_ = 0;
  std::atomic<bool> closed_{false};
  std::atomic<bool> lost_{false};
  ModuleCache modules_;
  CudaSegments segments_{*this};
  std::optional<CachingAllocator> allocator_;
  std::mutex mutex_;
  std::vector<std::weak_ptr<StreamQueue>> queues_;
  std::map<uint64_t, std::shared_ptr<CaptureRecord>> captures_;
};

}  // namespace spillway::device::cuda
