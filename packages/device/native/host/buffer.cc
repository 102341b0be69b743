#include "buffer.hpp"

#include <algorithm>
#include <cstring>

#include "../failure.hpp"
#include "host_device.hpp"
#include "stream.hpp"

namespace spillway::device::host {

static const char* storage_name(uint32_t storage) {
  static constexpr const char* kNames[] = {"", "device", "mapped", "pinned", "pageable"};
  return kNames[storage];
}

HostBuffer::HostBuffer(uint32_t kind, HostDevice& device, uint32_t storage, uint64_t bytes, std::string tag)
    : Buffer(kind, &device), tag_(std::move(tag)), storage_(storage), bytes_(bytes) {
  OrderChecker* checker = device.checker();
  if (!checker) return;
  label_ = std::string(storage_name(storage)) + " buffer " + std::to_string(checker->next_number(false)) +
           (tag_.empty() ? "" : " '" + tag_ + "'") + " of " + std::to_string(bytes) + " bytes";
}

spillway_buffer_info HostBuffer::info() const {
  spillway_buffer_info info{};
  info.struct_size = sizeof info;
  info.storage = storage_;
  info.bytes = bytes_;
  const bool reachable = static_cast<const HostDevice*>(device())->reaches(storage_);
  info.device_address = reachable ? reinterpret_cast<uint64_t>(kernel_data_) : 0;
  info.host_address = on_device() ? nullptr : data_;
  return info;
}

std::unique_lock<std::mutex> HostBuffer::begin_host_access(uint64_t offset, uint64_t bytes, uint32_t mode) {
  auto* host_device = static_cast<HostDevice*>(device());
  OrderChecker* checker = host_device->checker();
  if (!checker) return {};
  checker->host_access(*this, offset, bytes, mode, mode == SPILLWAY_ACCESS_READ ? "host read" : "host write");
  // A kernel under check has poison in bytes that it must not touch.
  return host_device->execution_turn();
}

void HostBuffer::visit_histories(uint64_t offset, uint64_t bytes, const Visit& visit) {
  if (history_) visit(*history_, offset, bytes, offset);
}

DeviceMemory::DeviceMemory(HostDevice& device, const DeviceAllocation& wanted)
    : HostBuffer(SPILLWAY_KIND_DEVICE_BUFFER, device, SPILLWAY_STORAGE_DEVICE, wanted.bytes, wanted.tag),
      lease_(device, wanted),
      place_(device.segments().find(lease_.address())) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): addresses of segments are numbers
  data_ = kernel_data_ = reinterpret_cast<uint8_t*>(lease_.address());
  if (TwinCheck* twins = device.twin_check()) {
    guarded_.emplace(Mapping::reserved(lease_.bytes()));
    kernel_data_ = guarded_->data();
    device.segments().visit(lease_.address(), lease_.bytes(),
                            [&](int descriptor, uint64_t in_file, uint64_t piece_bytes, uint64_t in_buffer) {
                              pieces_.push_back({in_buffer, in_file, piece_bytes});
                              guarded_->map(reinterpret_cast<uint64_t>(kernel_data_) + in_buffer, descriptor, in_file,
                                            piece_bytes);
                            });
    device.checker()->allocated(*place_.history, place_.offset, lease_.bytes(),
                                wanted.stream ? static_cast<HostStream*>(wanted.stream) : nullptr);
    auto turn = device.execution_turn();
    twins->memory().add(*guarded_, label());
  }
  poison(wanted.stream);
}

// Not before its turn: work enqueued before may still use the memory.
void DeviceMemory::poison(Stream* stream) {
  if (lease_.pending()) {
    static_cast<HostStream*>(stream)->poison(data_, lease_.bytes(), lease_.uses());
  } else {
    std::memset(data_, kFreshPoison, lease_.bytes());
  }
}

void DeviceMemory::retire() noexcept {
  // Who still reads it shall see that.
  if (lease_.uses().passed()) std::memset(data_, kFreshPoison, lease_.bytes());
  lease_.give_back();
}

DeviceMemory::~DeviceMemory() {
  if (!guarded_) return;
  auto* host_device = static_cast<HostDevice*>(device());
  auto turn = host_device->execution_turn();
  host_device->twin_check()->memory().retire(std::move(*guarded_));
}

void DeviceMemory::visit_histories(uint64_t offset, uint64_t bytes, const Visit& visit) {
  if (place_.history) visit(*place_.history, place_.offset + offset, bytes, offset);
}

void DeviceMemory::visit_physical(uint64_t offset, uint64_t bytes, const VisitPhysical& visit) const {
  for (const Piece& piece : pieces_) {
    const uint64_t from = std::max(offset, piece.in_buffer);
    const uint64_t to = std::min(offset + bytes, piece.in_buffer + piece.bytes);
    if (from < to) visit(piece.in_file + (from - piece.in_buffer), to - from, from);
  }
}

HostMemory::HostMemory(HostDevice& device, uint32_t storage, uint64_t bytes, HostAllocation& allocation)
    : HostBuffer(SPILLWAY_KIND_HOST_BUFFER, device, storage, bytes, "") {
  allocation.reserve(storage, bytes);
  check_registration_bytes(storage, bytes);
  allocation.check();
  const bool pins = storage != SPILLWAY_STORAGE_PAGEABLE;
  TwinCheck* twins = device.twin_check();
  if (twins && device.reaches(storage)) {
    extent_.emplace(device.host_memory_file().take(round_up(bytes, MemoryFile::page_bytes())));
    mapping_.emplace(Mapping::of(*extent_));
    guarded_.emplace(Mapping::of(*extent_));
    allocation.took(bytes);
  } else {
    region_.emplace(HostRegion::for_buffer(bytes));
    // Pageable memory gets its pages when it is written, as everywhere; nobody can wait for that here.
    if (pins)
      region_->touch(allocation, {});
    else
      allocation.took(bytes);
  }
  if (pins) {
    device.failures().pass(FailurePoint::kPinning, "pin");
    allocation.check();
  }
  data_ = mapping_ ? mapping_->data() : region_->data();
  kernel_data_ = guarded_ ? guarded_->data() : data_;
  if (twins) history_ = std::make_unique<AccessHistory>(bytes, true);
  if (guarded_) {
    auto turn = device.execution_turn();
    twins->memory().add(*guarded_, label());
  }
  device.counters().host_storage_bytes[storage].fetch_add(bytes, std::memory_order_relaxed);
}

HostMemory::~HostMemory() {
  auto* host_device = static_cast<HostDevice*>(device());
  if (guarded_) {
    auto turn = host_device->execution_turn();
    host_device->twin_check()->memory().retire(std::move(*guarded_));
  }
  host_device->counters().host_storage_bytes[storage()].fetch_sub(bytes(), std::memory_order_relaxed);
}

}  // namespace spillway::device::host
