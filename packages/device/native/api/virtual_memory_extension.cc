// Extension "virtual_memory": addresses and the memory behind them, apart.
#include <cstring>

#include "arguments.hpp"
#include "extensions.hpp"

namespace spillway::device {
namespace {

uint64_t granularity(spillway_device* device) {
  return static_cast<Device*>(reinterpret_cast<Object*>(device))->virtual_memory_granularity();
}
spillway_status reserve(spillway_device* device, uint64_t bytes, spillway_address_range** out, spillway_error* error) {
  return guard(error, [&] {
    check_out(out, "reserve");
    *out = opaque<spillway_address_range>(as<Device>(device, "reserve").reserve(bytes));
  });
}
spillway_status create_physical(spillway_device* device, uint64_t bytes, const char* tag,
                                spillway_physical_memory** out, spillway_error* error) {
  return guard(error, [&] {
    check_out(out, "create");
    if (tag == nullptr || *tag == '\0' || std::strlen(tag) > 63) {
      fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "create", "device memory needs a tag of 1 to 63 bytes");
    }
    *out = opaque<spillway_physical_memory>(as<Device>(device, "create").create_physical(bytes, tag));
  });
}
spillway_status map(spillway_address_range* range, uint64_t offset, spillway_physical_memory* memory,
                    spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<AddressRange>(range, "map");
    auto& physical = as<PhysicalMemory>(memory, "map");
    same_device(target, physical, "map");
    target.map(offset, physical);
  });
}
spillway_status unmap(spillway_address_range* range, uint64_t offset, uint64_t bytes, spillway_error* error) {
  return guard(error, [&] { as<AddressRange>(range, "unmap").unmap(offset, bytes); });
}
spillway_status range_buffer(spillway_address_range* range, uint64_t offset, uint64_t bytes, spillway_buffer** out,
                             spillway_error* error) {
  return guard(error, [&] {
    check_out(out, "buffer");
    *out = opaque<spillway_buffer>(as<AddressRange>(range, "buffer").create_buffer(offset, bytes));
  });
}

constexpr spillway_virtual_memory_api kVirtualMemoryApi = {
    sizeof(spillway_virtual_memory_api), 0, granularity, reserve, create_physical, map, unmap, range_buffer};

}  // namespace

const spillway_virtual_memory_api* virtual_memory_api() { return &kVirtualMemoryApi; }

}  // namespace spillway::device
