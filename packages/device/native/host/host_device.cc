#include "host_device.hpp"

#include <algorithm>

#include "../failure.hpp"
#include "../system_memory.hpp"
#include "buffer.hpp"
#include "event.hpp"
#include "stream.hpp"
#include "thread_queue.hpp"
#include "timestamp.hpp"
#include "virtual_memory.hpp"

namespace spillway::device::host {

HostDevice::HostDevice(HostDeviceOptions options)
    : Device(options.memory_limit_bytes),
      pins_(options.pins),
      unified_(options.unified),
      adversary_(options.adversarial_seed ? Adversary::start(*options.adversarial_seed) : nullptr),
      memory_("spillway-device"),
      pool_(options.threads),
      link_to_device_(options.link),
      link_to_host_(options.link) {
  budget().set_reclaim([this] { allocator_.release_cached(); });
  if (!options.check) return;
  checker_.emplace(std::move(options.site_probe));
  twin_check_.emplace(*checker_);
  host_memory_.emplace("spillway-host");
}

HostDevice::~HostDevice() {
  if (adversary_) adversary_->stop();
}

std::string HostDevice::name() const {
  return "host (" + std::to_string(pool_.threads()) + " threads" + (adversary_ ? ", adversarial" : "") +
         (checker_ ? ", checked" : "") + ")";
}

std::shared_ptr<WorkQueue> HostDevice::create_queue(uint32_t priority) {
  if (adversary_) return adversary_->create_queue(*this, priority);
  return ThreadQueue::start(*this, priority);
}

MemoryFile& HostDevice::host_memory_file() { return *host_memory_; }

void HostDevice::check_open(const char* call) const {
  if (closed_.load(std::memory_order_acquire)) {
    fail(SPILLWAY_STATUS_CLOSED, call, "this device was disposed; open another one");
  }
}

void HostDevice::register_queue(const std::shared_ptr<WorkQueue>& queue) {
  std::lock_guard lock(mutex_);
  std::erase_if(queues_, [](const std::weak_ptr<WorkQueue>& known) { return known.expired(); });
  queues_.push_back(queue);
}

Stream* HostDevice::create_stream(uint32_t priority) {
  check_open("stream_create");
  if (priority > SPILLWAY_PRIORITY_HIGH) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "stream_create", "no such stream priority: %u", priority);
  }
  failures_.pass(FailurePoint::kStream, "stream_create");
  return new HostStream(*this, priority);
}

Event* HostDevice::create_event() {
  check_open("event_create");
  failures_.pass(FailurePoint::kEvent, "event_create");
  return new HostEvent(this);
}

Timestamp* HostDevice::create_timestamp() {
  check_open("timestamp_create");
  failures_.pass(FailurePoint::kEvent, "timestamp_create");
  return new HostTimestamp(this);
}

Buffer* HostDevice::create_device_buffer(const DeviceAllocation& allocation) {
  check_open("buffer_create");
  check_buffer_bytes(allocation.bytes);
  if (allocation.stream && allocation.stream->capturing()) {
    fail(SPILLWAY_STATUS_CAPTURE, "buffer_create",
         "device memory cannot be allocated on a stream that is being captured; allocate it before");
  }
  failures_.pass(FailurePoint::kAllocation, "buffer_create");
  return new DeviceMemory(*this, allocation);
}

Buffer* HostDevice::create_host_buffer(uint32_t storage, uint64_t bytes, HostAllocation& allocation) {
  check_open("buffer_create");
  check_buffer_bytes(bytes);
  if (storage < SPILLWAY_STORAGE_MAPPED || storage > SPILLWAY_STORAGE_PAGEABLE) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "buffer_create", "no such storage kind: %u", storage);
  }
  if (!pins_ && storage != SPILLWAY_STORAGE_PAGEABLE) {
    fail(SPILLWAY_STATUS_NOT_SUPPORTED, "buffer_create",
         "this device was opened as one that cannot pin host memory; ask for pageable memory");
  }
  failures_.pass(FailurePoint::kAllocation, "buffer_create");
  return new HostMemory(*this, storage, bytes, allocation);
}

uint64_t HostDevice::available_bytes() {
  return std::min(budget().rest_bytes(), read_system_memory().available_bytes + budget().reading().cached_bytes);
}

MemoryFile::Extent HostDevice::take_memory(uint64_t bytes) {
  // Past what the system has left it kills instead of refusing.
  const uint64_t available = read_system_memory().available_bytes;
  if (bytes > available) budget().fail_out_of_memory(bytes, available);
  try {
    return memory_.take(bytes);
  } catch (const StatusError& failure) {
    if (failure.error().native_code == 0) throw;
    budget().fail_out_of_memory(bytes, available);
  }
}

void HostDevice::close(std::function<void()> done) {
  closed_.store(true, std::memory_order_release);
  std::vector<std::shared_ptr<WorkQueue>> queues;
  {
    std::lock_guard lock(mutex_);
    for (const std::weak_ptr<WorkQueue>& known : queues_) {
      if (std::shared_ptr<WorkQueue> queue = known.lock()) queues.push_back(std::move(queue));
    }
  }
  auto all_done = [this, done = std::move(done)] {
    if (checker_) checker_->host_joined_everything();
    done();
  };
  auto left = std::make_shared<std::atomic<size_t>>(queues.size() + 1);
  auto arrive = [left, all_done = std::move(all_done)] {
    if (left->fetch_sub(1, std::memory_order_acq_rel) == 1) all_done();
  };
  for (const std::shared_ptr<WorkQueue>& queue : queues) {
    // The thread of a stream disposed just now may have ended: it would never call back.
    if (!queue->push_unless_ended(std::make_shared<CallOperation>(arrive))) arrive();
    queue->demand();
  }
  arrive();
}

// As coarse as a page table entry of a small GPU page, so that code that forgets to round fails here too.
uint64_t HostDevice::virtual_memory_granularity() const { return 64 << 10; }

static void check_granular(const char* call, uint64_t bytes, uint64_t granularity) {
  if (bytes == 0 || bytes % granularity != 0 || bytes > (uint64_t{1} << 46)) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, call, "%llu bytes: must be a positive multiple of %llu, at most 2^46",
         static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(granularity));
  }
}

AddressRange* HostDevice::reserve(uint64_t bytes) {
  check_open("reserve");
  check_granular("reserve", bytes, virtual_memory_granularity());
  failures_.pass(FailurePoint::kMapping, "reserve");
  return new HostAddressRange(*this, bytes);
}

PhysicalMemory* HostDevice::create_physical(uint64_t bytes, const std::string& tag) {
  check_open("create");
  check_granular("create", bytes, virtual_memory_granularity());
  failures_.pass(FailurePoint::kAllocation, "create");
  return new HostPhysicalMemory(*this, bytes, tag);
}

}  // namespace spillway::device::host
