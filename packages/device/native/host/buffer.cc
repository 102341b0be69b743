#include "buffer.hpp"

#include <cstring>

#include "../failure.hpp"
#include "host_device.hpp"
#include "system_memory.hpp"

namespace spillway::device::host {

HostBuffer::HostBuffer(uint32_t kind, HostDevice& device, uint32_t storage, uint64_t bytes, std::string tag)
    : Buffer(kind, &device), tag_(std::move(tag)), storage_(storage), bytes_(bytes) {}

spillway_buffer_info HostBuffer::info() const {
  spillway_buffer_info info{};
  info.struct_size = sizeof info;
  info.storage = storage_;
  info.bytes = bytes_;
  bool reachable = storage_ == SPILLWAY_STORAGE_DEVICE || storage_ == SPILLWAY_STORAGE_MAPPED;
  info.device_address = reachable ? reinterpret_cast<uint64_t>(data_) : 0;
  info.host_address = on_device() ? nullptr : data_;
  return info;
}

DeviceMemory::DeviceMemory(HostDevice& device, uint64_t bytes, const std::string& tag)
    : HostBuffer(SPILLWAY_KIND_DEVICE_BUFFER, device, SPILLWAY_STORAGE_DEVICE, bytes, tag),
      charge_(device.budget(), round_up(bytes, MemoryFile::page_bytes()), tag),
      extent_(device.take_memory(round_up(bytes, MemoryFile::page_bytes()))),
      mapping_(Mapping::of(extent_)) {
  data_ = mapping_.data();
  std::memset(data_, kFreshPoison, mapping_.bytes());
}

static Mapping map_host(uint64_t bytes) {
  // Past what the system has left it kills instead of refusing.
  SystemMemory system = read_system_memory();
  if (bytes > system.available_bytes) {
    spillway_error error = empty_error();
    error.status = SPILLWAY_STATUS_OUT_OF_MEMORY;
    error.requested_bytes = bytes;
    error.free_bytes = system.available_bytes;
    error.total_bytes = system.total_bytes;
    std::snprintf(error.call, sizeof error.call, "buffer_create");
    std::snprintf(error.message, sizeof error.message,
                  "out of host memory: %s requested, %s available of %s. Close other programs, or use a smaller model",
                  format_bytes(bytes).c_str(), format_bytes(system.available_bytes).c_str(),
                  format_bytes(system.total_bytes).c_str());
    throw StatusError(error);
  }
  return Mapping::anonymous(round_up(bytes, MemoryFile::page_bytes()));
}

HostMemory::HostMemory(HostDevice& device, uint32_t storage, uint64_t bytes)
    : HostBuffer(SPILLWAY_KIND_HOST_BUFFER, device, storage, bytes, ""), mapping_(map_host(bytes)) {
  data_ = mapping_.data();
  device.counters().host_storage_bytes[storage].fetch_add(bytes, std::memory_order_relaxed);
}

HostMemory::~HostMemory() {
  device()->counters().host_storage_bytes[storage()].fetch_sub(bytes(), std::memory_order_relaxed);
}

}  // namespace spillway::device::host
