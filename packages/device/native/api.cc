// Fills the table: each entry checks its pointers, calls the device's method and turns exceptions into statuses.
#include "api.hpp"

#include <string>
#include <string_view>
#include <vector>

#include "api/arguments.hpp"
#include "api/extensions.hpp"

namespace spillway::device {
namespace {

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

template <typename Table>
const void* if_long_enough(const Table* table, uint32_t min_struct_size) {
  return table != nullptr && table->struct_size >= min_struct_size ? table : nullptr;
}
const void* extension(spillway_device* device, const char* name, uint32_t min_struct_size) {
  if (name == nullptr) return nullptr;
  const std::string_view wanted = name;
  if (wanted == SPILLWAY_EXTENSION_GRAPH) return if_long_enough(graph_api(), min_struct_size);
  if (wanted == SPILLWAY_EXTENSION_VIRTUAL_MEMORY) return if_long_enough(virtual_memory_api(), min_struct_size);
  if (wanted == SPILLWAY_EXTENSION_TIMING) return if_long_enough(timing_api(), min_struct_size);
  if (wanted == SPILLWAY_EXTENSION_CUDA) {
    return if_long_enough(cuda_api(static_cast<Device*>(reinterpret_cast<Object*>(device))), min_struct_size);
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
