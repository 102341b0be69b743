#include <map>
#include <string>

#include "../allocator/caching_allocator.hpp"
#include "../api.hpp"
#include "../system_memory.hpp"
#include "instance.hpp"

namespace spillway::device::binding {
namespace {

Napi::Object by_tag(Napi::Env env, const std::map<std::string, uint64_t>& values) {
  Napi::Object result = Napi::Object::New(env);
  for (const auto& [tag, bytes] : values) result.Set(tag, number(env, bytes));
  return result;
}

Device& device_of(const Napi::CallbackInfo& info) { return object_of<Device>(info[0], SPILLWAY_KIND_DEVICE); }

// attach(): External of the function table
Napi::Value attach(const Napi::CallbackInfo& info) {
  // Node-API has no Externals of const data; readers take it back as const.
  auto external = Napi::External<spillway_api>::New(info.Env(), const_cast<spillway_api*>(api()));
  external.TypeTag(&kApiTag);
  return external;
}

Napi::Value system_memory(const Napi::CallbackInfo& info) {
  SystemMemory system = read_system_memory();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("totalBytes", number(info.Env(), system.total_bytes));
  result.Set("availableBytes", number(info.Env(), system.available_bytes));
  return result;
}

// release(handle): drops the reference now; the handle is disposed from here on. Twice is harmless.
Napi::Value release(const Napi::CallbackInfo& info) {
  spillway_box* box = to_box(info[0]);
  if (box->object) {
    auto* object = reinterpret_cast<Object*>(box->object);
    box->object = nullptr;
    object->release();
  }
  return info.Env().Undefined();
}

Napi::Value name(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), device_of(info).name()); }

Napi::Value budget(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Budget::Reading reading = device_of(info).budget().reading();
  Napi::Object result = Napi::Object::New(env);
  result.Set("limitBytes", number(env, reading.limit_bytes));
  result.Set("usedBytes", number(env, reading.used_bytes));
  result.Set("peakBytes", number(env, reading.peak_bytes));
  result.Set("granuleBytes", number(env, device_of(info).allocator().granule_bytes()));
  result.Set("cachedBytes", number(env, reading.cached_bytes));
  result.Set("usedBytesByTag", by_tag(env, device_of(info).budget().used_by_tag()));
  return result;
}

// availableBytes(device): asks the system, so it is no part of budget()
Napi::Value available_bytes(const Napi::CallbackInfo& info) {
  return number(info.Env(), device_of(info).available_bytes());
}

Napi::Value counters(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Device& device = device_of(info);
  Counters& counters = device.counters();
  Napi::Object result = Napi::Object::New(env);
  auto set = [&](const char* key, const std::atomic<uint64_t>& value) {
    result.Set(key, number(env, value.load(std::memory_order_relaxed)));
  };
  set("hostToDeviceBytes", counters.host_to_device_bytes);
  set("hostToDeviceCopies", counters.host_to_device_copies);
  set("deviceToHostBytes", counters.device_to_host_bytes);
  set("deviceToHostCopies", counters.device_to_host_copies);
  set("deviceToDeviceBytes", counters.device_to_device_bytes);
  set("hostToHostBytes", counters.host_to_host_bytes);
  set("launches", counters.launches);
  set("graphLaunches", counters.graph_launches);
  set("mappedBytes", counters.host_storage_bytes[SPILLWAY_STORAGE_MAPPED]);
  set("pinnedBytes", counters.host_storage_bytes[SPILLWAY_STORAGE_PINNED]);
  set("pageableBytes", counters.host_storage_bytes[SPILLWAY_STORAGE_PAGEABLE]);
  result.Set("hostToDeviceBytesByTag", by_tag(env, counters.host_to_device_by_tag()));
  Napi::Object live = Napi::Object::New(env);
  for (uint32_t kind = SPILLWAY_KIND_STREAM; kind < SPILLWAY_KIND_COUNT; ++kind) {
    live.Set(kind_name(kind), Napi::Number::New(env, static_cast<double>(device.live_objects[kind].load())));
  }
  result.Set("liveHandles", live);
  return result;
}

// close(device): resolves when the device has done everything; from now on it takes no more work
Napi::Value close(const Napi::CallbackInfo& info) {
  Device& device = device_of(info);
  Settler::Pending pending = instance(info.Env()).settler.open(info.Env());
  Settler::Ticket* ticket = pending.ticket;
  device.close([ticket] {
    ticket->settle([](Napi::Env env, const Napi::Promise::Deferred& deferred) { deferred.Resolve(env.Undefined()); });
  });
  return pending.promise;
}

}  // namespace

void export_device(Napi::Env env, Napi::Object exports) {
  export_function<attach>(env, exports, "attach");
  export_function<system_memory>(env, exports, "systemMemory");
  export_function<release>(env, exports, "release");
  export_function<name>(env, exports, "name");
  export_function<budget>(env, exports, "budget");
  export_function<available_bytes>(env, exports, "availableBytes");
  export_function<counters>(env, exports, "counters");
  export_function<close>(env, exports, "close");
}

}  // namespace spillway::device::binding
