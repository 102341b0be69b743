#include "cuda_device.hpp"

#include <algorithm>

#include "../failure.hpp"
#include "../host_memory/numa_node.hpp"
#include "cuda_graph.hpp"
#include "cuda_host_memory.hpp"
#include "cuda_stream.hpp"
#include "cuda_timestamp.hpp"
#include "cuda_virtual_memory.hpp"
#include "stream_queue.hpp"

namespace spillway::device::cuda {

// CU_DEVICE_ATTRIBUTE_*
constexpr int32_t kMultiprocessors = 16;
constexpr int32_t kIntegrated = 18;
constexpr int32_t kComputeCapabilityMajor = 75;
constexpr int32_t kComputeCapabilityMinor = 76;
constexpr int32_t kUsesHostPageTables = 100;
constexpr int32_t kVirtualMemory = 102;

static DeviceNumber find_device(int32_t index) {
  const Driver& driver = cuda::driver();
  if (!driver.unavailable.empty()) fail(SPILLWAY_STATUS_NOT_SUPPORTED, "open", "%s", driver.unavailable.c_str());
  int32_t count = 0;
  SPILLWAY_CUDA(cuDeviceGetCount, &count);
  if (index < 0 || index >= count) {
    fail(SPILLWAY_STATUS_NOT_SUPPORTED, "open", "there is no GPU %d: the driver shows %d, numbered from 0", index,
         count);
  }
  DeviceNumber number = 0;
  SPILLWAY_CUDA(cuDeviceGet, &number, index);
  return number;
}

static uint64_t limit_of(DeviceNumber number, uint64_t limit_bytes) {
  size_t total = 0;
  SPILLWAY_CUDA(cuDeviceTotalMem, &total, number);
  return limit_bytes == 0 ? total : std::min<uint64_t>(limit_bytes, total);
}

CudaDevice::CudaDevice(int32_t index, uint64_t limit_bytes)
    : Device(limit_of(find_device(index), limit_bytes)), number_(find_device(index)), modules_(*this) {
  SPILLWAY_CUDA(cuDevicePrimaryCtxRetain, &context_, number_);
  try {
    SPILLWAY_CUDA(cuCtxSetCurrent, context_);
    char name[128] = "";
    SPILLWAY_CUDA(cuDeviceGetName, name, sizeof name, number_);
    name_ = name;
    auto attribute = [&](int32_t which) {
      int32_t value = 0;
      SPILLWAY_CUDA(cuDeviceGetAttribute, &value, which, number_);
      return value;
    };
    compute_capability_ = attribute(kComputeCapabilityMajor) * 10 + attribute(kComputeCapabilityMinor);
    multiprocessors_ = attribute(kMultiprocessors);
    unified_ = attribute(kIntegrated) != 0 || attribute(kUsesHostPageTables) != 0;
    char pci_address[32] = "";
    SPILLWAY_CUDA(cuDeviceGetPCIBusId, pci_address, sizeof pci_address, number_);
    numa_node_ = numa_node_of("", pci_address);
    SPILLWAY_CUDA(cuCtxGetStreamPriorityRange, &lowest_priority_, &highest_priority_);
    if (driver().virtual_memory && attribute(kVirtualMemory) != 0) {
      MemoryProperties properties;
      properties.location.id = number_;
      size_t granularity = 0;
      SPILLWAY_CUDA(cuMemGetAllocationGranularity, &granularity, &properties, 0);
      granularity_ = granularity;
    }
  } catch (...) {
    driver().cuDevicePrimaryCtxRelease(number_);
    throw;
  }
  allocator_.emplace(segments_);
  budget().set_reclaim([this] { allocator_->release_cached(); });
}

CudaDevice::~CudaDevice() {
  modules_.clear();
  allocator_.reset();
  driver().cuDevicePrimaryCtxRelease(number_);
}

CudaDevice& CudaDevice::of(Device& device, const char* call) {
  auto* gpu = dynamic_cast<CudaDevice*>(&device);
  if (gpu == nullptr) fail(SPILLWAY_STATUS_NOT_SUPPORTED, call, "%s is for a GPU, and this device is none", call);
  return *gpu;
}

void CudaDevice::enter(const char* call) {
  if (closed_.load(std::memory_order_acquire)) {
    fail(SPILLWAY_STATUS_CLOSED, call, "this device was disposed; open another one");
  }
  if (lost_.load(std::memory_order_acquire)) {
    fail(SPILLWAY_STATUS_DEVICE_LOST, call, "this device was lost in an earlier call; start the process again");
  }
  check(driver().cuCtxSetCurrent(context_), "cuCtxSetCurrent");
}

void CudaDevice::enter_to_free() noexcept { driver().cuCtxSetCurrent(context_); }

void CudaDevice::check(Result result, const char* call) {
  if (is_sticky(result)) lost_.store(true, std::memory_order_release);
  cuda::check(result, call);
}

uint64_t CudaDevice::available_bytes() {
  enter_to_free();
  size_t free = 0;
  size_t total = 0;
  if (driver().cuMemGetInfo(&free, &total) != kSuccess) return 0;
  return std::min<uint64_t>(budget().rest_bytes(), free + budget().reading().cached_bytes);
}

int32_t CudaDevice::stream_priority(uint32_t priority) const {
  // Lower numbers go first; the range may be empty.
  if (priority == SPILLWAY_PRIORITY_HIGH) return highest_priority_;
  if (priority == SPILLWAY_PRIORITY_LOW) return lowest_priority_;
  return (lowest_priority_ + highest_priority_) / 2;
}

void CudaDevice::register_queue(const std::shared_ptr<StreamQueue>& queue) {
  std::lock_guard lock(mutex_);
  std::erase_if(queues_, [](const std::weak_ptr<StreamQueue>& known) { return known.expired(); });
  queues_.push_back(queue);
}

std::vector<std::shared_ptr<StreamQueue>> CudaDevice::queues() {
  std::vector<std::shared_ptr<StreamQueue>> queues;
  std::lock_guard lock(mutex_);
  for (const std::weak_ptr<StreamQueue>& known : queues_) {
    if (std::shared_ptr<StreamQueue> queue = known.lock()) queues.push_back(std::move(queue));
  }
  return queues;
}

void CudaDevice::collect() {
  for (const std::shared_ptr<StreamQueue>& queue : queues()) queue->collect();
}

std::shared_ptr<CaptureRecord> CudaDevice::capture(uint64_t id) {
  std::lock_guard lock(mutex_);
  auto known = captures_.find(id);
  return known == captures_.end() ? nullptr : known->second;
}

void CudaDevice::add_capture(uint64_t id, std::shared_ptr<CaptureRecord> record) {
  std::lock_guard lock(mutex_);
  captures_[id] = std::move(record);
}

void CudaDevice::remove_capture(uint64_t id) {
  std::shared_ptr<CaptureRecord> dropped;  // outside the lock: it may hold the last buffers
  std::lock_guard lock(mutex_);
  auto known = captures_.find(id);
  if (known == captures_.end()) return;
  dropped = std::move(known->second);
  captures_.erase(known);
}

Stream* CudaDevice::create_stream(uint32_t priority) {
  enter("stream_create");
  if (priority > SPILLWAY_PRIORITY_HIGH) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "stream_create", "no such stream priority: %u", priority);
  }
  return new CudaStream(*this, priority);
}

Event* CudaDevice::create_event() {
  enter("event_create");
  return new CudaEvent(*this);
}

Timestamp* CudaDevice::create_timestamp() {
  enter("timestamp_create");
  return new CudaTimestamp(*this);
}

Buffer* CudaDevice::create_device_buffer(const DeviceAllocation& allocation) {
  enter("buffer_create");
  check_buffer_bytes(allocation.bytes);
  if (allocation.stream && allocation.stream->capturing()) {
    fail(SPILLWAY_STATUS_CAPTURE, "buffer_create",
         "device memory cannot be allocated on a stream that is being captured; allocate it before");
  }
  return new DeviceMemory(*this, allocation);
}

Buffer* CudaDevice::create_host_buffer(uint32_t storage, uint64_t bytes, HostAllocation& allocation) {
  enter("buffer_create");
  check_buffer_bytes(bytes);
  if (storage < SPILLWAY_STORAGE_MAPPED || storage > SPILLWAY_STORAGE_PAGEABLE) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "buffer_create", "no such storage kind: %u", storage);
  }
  return new HostMemory(*this, storage, bytes, allocation);
}

static void check_granular(const char* call, uint64_t bytes, uint64_t granularity) {
  if (granularity == 0) {
    fail(SPILLWAY_STATUS_NOT_SUPPORTED, call, "this GPU or its driver has no virtual memory management");
  }
  if (bytes == 0 || bytes % granularity != 0 || bytes > (uint64_t{1} << 46)) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, call, "%llu bytes: must be a positive multiple of %llu, at most 2^46",
         static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(granularity));
  }
}

AddressRange* CudaDevice::reserve(uint64_t bytes) {
  enter("reserve");
  check_granular("reserve", bytes, granularity_);
  return new CudaAddressRange(*this, bytes);
}

PhysicalMemory* CudaDevice::create_physical(uint64_t bytes, const std::string& tag) {
  enter("create");
  check_granular("create", bytes, granularity_);
  return new CudaPhysicalMemory(*this, bytes, tag);
}

void CudaDevice::close(std::function<void()> done) {
  closed_.store(true, std::memory_order_release);
  const std::vector<std::shared_ptr<StreamQueue>> open = queues();
  auto left = std::make_shared<std::atomic<size_t>>(open.size() + 1);
  auto arrive = [left, done = std::move(done)] {
    if (left->fetch_sub(1, std::memory_order_acq_rel) == 1) done();
  };
  for (const std::shared_ptr<StreamQueue>& queue : open) {
    if (!queue->when_done([arrive](spillway_status) { arrive(); })) arrive();
  }
  arrive();
}

}  // namespace spillway::device::cuda
