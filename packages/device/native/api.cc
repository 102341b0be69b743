// Fills the table: each entry checks its pointers, calls the device's method and turns exceptions into statuses.
#include "api.hpp"

#include <cstring>
#include <limits>
#include <string>

#include "cuda/cuda_stream.hpp"
#include "device.hpp"
#include "failure.hpp"
#include "same_device.hpp"

namespace spillway::device {
namespace {

template <typename T, typename Opaque>
T& as(Opaque* handle, const char* call) {
  if (handle == nullptr) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, call, "a handle is NULL");
  return *static_cast<T*>(reinterpret_cast<Object*>(handle));
}

template <typename Opaque>
Opaque* opaque(Object* object) {
  return reinterpret_cast<Opaque*>(object);
}

template <typename Struct>
void check_struct(const Struct* value, const char* call) {
  if (value == nullptr || value->struct_size < sizeof(Struct)) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, call, "a struct is NULL or its struct_size too small");
  }
}

// Before anything is created: it could not be handed over.
template <typename Handle>
void check_out(Handle** out, const char* call) {
  if (out == nullptr) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, call, "there is nowhere to put the handle: out is NULL");
}

void retain(spillway_object* object) { reinterpret_cast<Object*>(object)->retain(); }
void release(spillway_object* object) {
  if (object) reinterpret_cast<Object*>(object)->release();
}
uint32_t kind(const spillway_object* object) { return reinterpret_cast<const Object*>(object)->kind(); }
spillway_device* device_of(spillway_object* object) {
  return opaque<spillway_device>(reinterpret_cast<Object*>(object)->device());
}

spillway_status budget(spillway_device* device, spillway_budget* out, spillway_error* error) {
  return guard(error, [&] {
    check_struct(out, "budget");
    auto& target = as<Device>(device, "budget");
    Budget::Reading reading = target.budget().reading();
    out->available_bytes = target.available_bytes();
    out->limit_bytes = reading.limit_bytes;
    out->used_bytes = reading.used_bytes;
    out->peak_bytes = reading.peak_bytes;
  });
}

spillway_status stream_create(spillway_device* device, uint32_t priority, spillway_stream** out,
                              spillway_error* error) {
  return guard(error, [&] {
    check_out(out, "stream_create");
    *out = opaque<spillway_stream>(as<Device>(device, "stream_create").create_stream(priority));
  });
}
spillway_status stream_synchronize(spillway_stream* stream, spillway_error* error) {
  return guard(error, [&] { as<Stream>(stream, "stream_synchronize").synchronize(); });
}
spillway_status stream_notify(spillway_stream* stream, spillway_notification notification, void* state,
                              spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "stream_notify");
    if (notification == nullptr) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "stream_notify", "the notification is NULL");
    target.notify([notification, state, wait = target.begin_host_wait()](spillway_status status) {
      if (wait) wait();
      notification(state, status);
    });
  });
}
uint32_t stream_capturing(spillway_stream* stream) {
  return stream && static_cast<Stream*>(reinterpret_cast<Object*>(stream))->capturing() ? 1 : 0;
}

spillway_status event_create(spillway_device* device, spillway_event** out, spillway_error* error) {
  return guard(error, [&] {
    check_out(out, "event_create");
    *out = opaque<spillway_event>(as<Device>(device, "event_create").create_event());
  });
}
spillway_status event_record(spillway_event* event, spillway_stream* stream, spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "event_record");
    auto& source = as<Event>(event, "event_record");
    same_device(target, source, "event_record");
    target.record(source, false);
  });
}
spillway_status event_wait(spillway_event* event, spillway_stream* stream, uint32_t flags, spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "event_wait");
    auto& source = as<Event>(event, "event_wait");
    same_device(target, source, "event_wait");
    target.wait(source, (flags & SPILLWAY_WAIT_EXTERNAL) != 0);
  });
}

spillway_status buffer_create(spillway_device* device, const spillway_allocation* allocation, spillway_buffer** out,
                              spillway_error* error) {
  return guard(error, [&] {
    check_out(out, "buffer_create");
    check_struct(allocation, "buffer_create");
    auto& target = as<Device>(device, "buffer_create");
    std::string tag = allocation->tag ? allocation->tag : "";
    if (allocation->storage == SPILLWAY_STORAGE_DEVICE && (tag.empty() || tag.size() > 63)) {
      fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "buffer_create", "device memory needs a tag of 1 to 63 bytes");
    }
    Stream* stream = nullptr;
    if (allocation->stream) {
      stream = &as<Stream>(allocation->stream, "buffer_create");
      same_device(target, *stream, "buffer_create");
    }
    if (allocation->storage == SPILLWAY_STORAGE_DEVICE) {
      *out = opaque<spillway_buffer>(
          target.create_device_buffer({allocation->bytes, tag, stream, "", target.default_settings()}));
      return;
    }
    HostAllocation host;
    *out = opaque<spillway_buffer>(target.create_host_buffer(allocation->storage, allocation->bytes, host));
  });
}
spillway_status buffer_info(spillway_buffer* buffer, spillway_buffer_info* out, spillway_error* error) {
  return guard(error, [&] {
    check_struct(out, "buffer_info");
    uint32_t size = out->struct_size;
    *out = as<Buffer>(buffer, "buffer_info").info();
    out->struct_size = size;
  });
}

spillway_status copy(spillway_stream* stream, const spillway_copy* copies, uint32_t count, spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "copy");
    std::vector<Copy> all;
    all.reserve(count);
    for (uint32_t i = 0; i < count; ++i) {
      const spillway_copy* copy = copies ? copies + i : nullptr;
      check_struct(copy, "copy");
      auto& to = as<Buffer>(copy->to, "copy");
      auto& from = as<Buffer>(copy->from, "copy");
      same_device(target, to, "copy");
      same_device(target, from, "copy");
      all.push_back({&to, copy->to_offset, &from, copy->from_offset, copy->bytes});
    }
    target.copy(all);
  });
}
spillway_status fill(spillway_stream* stream, spillway_buffer* to, uint64_t offset, uint64_t bytes, uint8_t value,
                     spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "fill");
    auto& buffer = as<Buffer>(to, "fill");
    same_device(target, buffer, "fill");
    target.fill(buffer, offset, bytes, value);
  });
}
void check_accesses(Stream& stream, const spillway_access* accesses, uint32_t count, const char* call) {
  for (uint32_t i = 0; i < count; ++i) same_device(stream, as<Buffer>(accesses[i].buffer, call), call);
}
spillway_status launch(spillway_stream* stream, const spillway_launch* launch, spillway_error* error) {
  return guard(error, [&] {
    check_struct(launch, "launch");
    auto& target = as<Stream>(stream, "launch");
    if (launch->argument_bytes > 4096 || (launch->argument_bytes > 0 && launch->arguments == nullptr) ||
        (launch->access_count > 0 && launch->accesses == nullptr)) {
      fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "launch", "arguments are at most 4096 bytes, and arrays are not NULL");
    }
    check_accesses(target, launch->accesses, launch->access_count, "launch");
    target.launch(*launch);
  });
}

// ---- extension "graph" ----

spillway_status begin_capture(spillway_stream* stream, spillway_error* error) {
  return guard(error, [&] { as<Stream>(stream, "begin_capture").begin_capture(); });
}
spillway_status end_capture(spillway_stream* stream, spillway_graph** out, spillway_error* error) {
  return guard(error, [&] {
    check_out(out, "end_capture");
    *out = opaque<spillway_graph>(as<Stream>(stream, "end_capture").end_capture());
  });
}
spillway_status graph_launch(spillway_graph* graph, spillway_stream* stream, spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "graph_launch");
    auto& source = as<Graph>(graph, "graph_launch");
    same_device(target, source, "graph_launch");
    target.replay(source);
  });
}
uint32_t node_count(spillway_graph* graph) {
  return graph ? static_cast<Graph*>(reinterpret_cast<Object*>(graph))->node_count() : 0;
}

uint64_t replays(spillway_stream* stream) {
  return stream ? static_cast<Stream*>(reinterpret_cast<Object*>(stream))->replays()->load(std::memory_order_relaxed)
                : 0;
}
constexpr spillway_graph_api kGraphApi = {
    sizeof(spillway_graph_api), 0, begin_capture, end_capture, graph_launch, node_count, replays};

// ---- extension "virtual_memory" ----

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

// ---- extension "timing" ----

spillway_status timestamp_create(spillway_device* device, spillway_timestamp** out, spillway_error* error) {
  return guard(error, [&] {
    check_out(out, "timestamp_create");
    *out = opaque<spillway_timestamp>(as<Device>(device, "timestamp_create").create_timestamp());
  });
}
spillway_status timestamp_record(spillway_timestamp* timestamp, spillway_stream* stream, spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "timestamp_record");
    auto& source = as<Timestamp>(timestamp, "timestamp_record");
    same_device(target, source, "timestamp_record");
    target.record(source);
  });
}
spillway_status timestamp_elapsed(spillway_timestamp* from, spillway_timestamp* to, double* out_ms,
                                  spillway_error* error) {
  return guard(error, [&] {
    auto& earlier = as<Timestamp>(from, "timestamp_elapsed");
    auto& later = as<Timestamp>(to, "timestamp_elapsed");
    same_device(earlier, later, "timestamp_elapsed");
    if (out_ms == nullptr) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "timestamp_elapsed", "out_ms is NULL");
    *out_ms = later.milliseconds_since(earlier).value_or(std::numeric_limits<double>::quiet_NaN());
  });
}

constexpr spillway_timing_api kTimingApi = {sizeof(spillway_timing_api), 0, timestamp_create, timestamp_record,
                                            timestamp_elapsed};

// ---- extension "cuda" ----

spillway_status cuda_info(spillway_device* device, spillway_cuda_info* out, spillway_error* error) {
  return guard(error, [&] {
    check_struct(out, "info");
    const auto& target = cuda::CudaDevice::of(as<Device>(device, "info"), "info");
    out->device = target.number();
    out->compute_capability = static_cast<uint32_t>(target.compute_capability());
    out->multiprocessors = static_cast<uint32_t>(target.multiprocessors());
  });
}
spillway_status cuda_enqueue(spillway_stream* stream, const spillway_access* accesses, uint32_t access_count,
                             spillway_cuda_work work, void* state, spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "enqueue");
    cuda::CudaDevice::of(*target.device(), "enqueue");
    if (work == nullptr || (access_count > 0 && accesses == nullptr)) {
      fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "enqueue", "work and accesses are not NULL");
    }
    check_accesses(target, accesses, access_count, "enqueue");
    static_cast<cuda::CudaStream&>(target).enqueue(accesses, access_count, work, state);
  });
}

constexpr spillway_cuda_api kCudaApi = {sizeof(spillway_cuda_api), 0, cuda_info, cuda_enqueue};

const void* extension(spillway_device* device, const char* name, uint32_t min_struct_size) {
  if (name == nullptr) return nullptr;
  if (std::strcmp(name, SPILLWAY_EXTENSION_CUDA) == 0) {
    auto* object = static_cast<Device*>(reinterpret_cast<Object*>(device));
    const bool gpu = dynamic_cast<cuda::CudaDevice*>(object) != nullptr;
    return gpu && kCudaApi.struct_size >= min_struct_size ? &kCudaApi : nullptr;
  }
  if (std::strcmp(name, SPILLWAY_EXTENSION_GRAPH) == 0 && kGraphApi.struct_size >= min_struct_size) return &kGraphApi;
  if (std::strcmp(name, SPILLWAY_EXTENSION_VIRTUAL_MEMORY) == 0 && kVirtualMemoryApi.struct_size >= min_struct_size) {
    return &kVirtualMemoryApi;
  }
  if (std::strcmp(name, SPILLWAY_EXTENSION_TIMING) == 0 && kTimingApi.struct_size >= min_struct_size) {
    return &kTimingApi;
  }
  return nullptr;
}

constexpr spillway_api kApi = {sizeof(spillway_api),
                               SPILLWAY_ABI_MAJOR,
                               SPILLWAY_ABI_MINOR,
                               retain,
                               release,
                               kind,
                               device_of,
                               budget,
                               stream_create,
                               stream_synchronize,
                               stream_notify,
                               stream_capturing,
                               event_create,
                               event_record,
                               event_wait,
                               buffer_create,
                               buffer_info,
                               copy,
                               fill,
                               launch,
                               extension};

}  // namespace

const spillway_api* api() { return &kApi; }

}  // namespace spillway::device
