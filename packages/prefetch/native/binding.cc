// The entry point of prefetch.node. All functions: the JavaScript thread of one environment.
#include <algorithm>
#include <spillway/napi.hpp>
#include <vector>

#include "ring.hpp"

namespace spillway::prefetch {
namespace {

struct Instance {
  const spillway_api* api = nullptr;
};

constexpr napi_type_tag kRingTag = {0x5a0c3e9172bd4f68ull, 0x9e17d42c80fb6a35ull};

const spillway_api* attached(Napi::Env env) {
  const spillway_api* api = env.GetInstanceData<Instance>()->api;
  if (api == nullptr) throw coded_error(env, "SPILLWAY_INVALID_STATE", "attach() the table of @spillway/device first");
  return api;
}

Ring& ring_of(const Napi::Value& value) {
  if (!value.IsExternal() || !value.As<Napi::External<Ring*>>().CheckTypeTag(&kRingTag)) {
    throw_invalid(value.Env(), "expected a ring");
  }
  Ring* ring = *value.As<Napi::External<Ring*>>().Data();
  if (ring == nullptr) throw coded_error(value.Env(), "SPILLWAY_DISPOSED", "this ring was disposed");
  return *ring;
}

uint32_t element_of(const Napi::Value& value, const Ring& ring) {
  uint32_t element = to_uint32(value, "element");
  if (element >= ring.size()) throw_invalid(value.Env(), "no such element of the ring");
  return element;
}

// attach(table)
Napi::Value attach(const Napi::CallbackInfo& info) {
  info.Env().GetInstanceData<Instance>()->api = attach_api(info[0], sizeof(spillway_api), "@spillway/prefetch");
  return info.Env().Undefined();
}

uint64_t buffer_bytes(const spillway_api* api, spillway_buffer* buffer, bool device) {
  spillway_buffer_info description = describe(api, buffer);
  if ((description.storage == SPILLWAY_STORAGE_DEVICE) != device) {
    throw StatusError(SPILLWAY_STATUS_INVALID_ARGUMENT, "ring", "slots are device memory, slabs are host memory");
  }
  return description.bytes;
}

// createRing(copyStream, slabs[], bytes[], slots[])
Napi::Value create_ring(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const spillway_api* api = attached(env);
  auto* stream = unbox<spillway_stream>(info[0], SPILLWAY_KIND_STREAM);
  if (!info[1].IsArray() || !info[2].IsArray() || !info[3].IsArray()) {
    throw_invalid(env, "slabs, bytes and slots are arrays");
  }
  auto slab_values = info[1].As<Napi::Array>();
  auto byte_values = info[2].As<Napi::Array>();
  auto slot_values = info[3].As<Napi::Array>();
  uint32_t count = slab_values.Length();
  uint32_t step = slot_values.Length();
  if (count == 0 || step == 0 || step > count || byte_values.Length() != count) {
    throw_invalid(env, "a ring has at least one slab, a size for each, and from one to as many slots");
  }
  std::vector<Reference<spillway_buffer>> slots;
  std::vector<uint64_t> slot_bytes;
  for (uint32_t k = 0; k < step; ++k) {
    spillway_buffer* buffer = unbox_buffer(slot_values.Get(k));
    slot_bytes.push_back(buffer_bytes(api, buffer, true));
    slots.push_back(Reference<spillway_buffer>::retain(api, buffer));
  }
  std::vector<Ring::Element> elements;
  for (uint32_t i = 0; i < count; ++i) {
    spillway_buffer* buffer = unbox_buffer(slab_values.Get(i));
    uint64_t bytes = to_size(byte_values.Get(i), "bytes");
    if (bytes == 0 || bytes > buffer_bytes(api, buffer, false) || bytes > slot_bytes[i % step]) {
      throw_invalid(env, "the bytes of a layer are more than its slab or its slot has, or none");
    }
    elements.push_back({Reference<spillway_buffer>::retain(api, buffer), bytes});
  }
  auto** cell = new Ring*(nullptr);
  auto external = Napi::External<Ring*>::New(env, cell, [](Napi::BasicEnv, Ring** dead) {
    delete *dead;
    delete dead;
  });
  external.TypeTag(&kRingTag);
  *cell = new Ring(api, Reference<spillway_stream>::retain(api, stream), std::move(elements), std::move(slots));
  return external;
}

// start(ring, stream): the first onloads, after what is enqueued on the stream
Napi::Value start(const Napi::CallbackInfo& info) {
  ring_of(info[0]).start(unbox<spillway_stream>(info[1], SPILLWAY_KIND_STREAM));
  return info.Env().Undefined();
}
Napi::Value begin(const Napi::CallbackInfo& info) {
  ring_of(info[0]).begin(unbox<spillway_stream>(info[1], SPILLWAY_KIND_STREAM));
  return info.Env().Undefined();
}
Napi::Value before(const Napi::CallbackInfo& info) {
  Ring& ring = ring_of(info[0]);
  ring.before(element_of(info[1], ring));
  return info.Env().Undefined();
}
Napi::Value after(const Napi::CallbackInfo& info) {
  Ring& ring = ring_of(info[0]);
  ring.after(element_of(info[1], ring));
  return info.Env().Undefined();
}
// end(ring, ok): what was left out or broken off shows in the slots, so ok is not asked
Napi::Value end(const Napi::CallbackInfo& info) {
  ring_of(info[0]).end();
  return info.Env().Undefined();
}
// rebuild(ring, slot, stream)
Napi::Value rebuild(const Napi::CallbackInfo& info) {
  Ring& ring = ring_of(info[0]);
  uint32_t slot = to_uint32(info[1], "slot");
  if (slot >= ring.slots()) throw_invalid(info.Env(), "no such slot of the ring");
  ring.rebuild(slot, unbox<spillway_stream>(info[2], SPILLWAY_KIND_STREAM));
  return info.Env().Undefined();
}
Napi::Value counters(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const RingCounters& counters = ring_of(info[0]).counters();
  Napi::Object result = Napi::Object::New(env);
  result.Set("onloadedBytes", Napi::Number::New(env, static_cast<double>(counters.onloaded_bytes)));
  result.Set("onloads", Napi::Number::New(env, static_cast<double>(counters.onloads)));
  result.Set("capturedOnloads", Napi::Number::New(env, static_cast<double>(counters.captured_onloads)));
  result.Set("demandOnloads", Napi::Number::New(env, static_cast<double>(counters.demand_onloads)));
  result.Set("resets", Napi::Number::New(env, static_cast<double>(counters.resets)));
  return result;
}
// close(ring): gives its references back now; enqueued copies keep their own
Napi::Value close(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal() || !info[0].As<Napi::External<Ring*>>().CheckTypeTag(&kRingTag)) {
    throw_invalid(info.Env(), "expected a ring");
  }
  Ring** cell = info[0].As<Napi::External<Ring*>>().Data();
  delete *cell;
  *cell = nullptr;
  return info.Env().Undefined();
}

}  // namespace

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Instance);
  export_function<attach>(env, exports, "attach");
  export_function<create_ring>(env, exports, "createRing");
  export_function<start>(env, exports, "start");
  export_function<begin>(env, exports, "begin");
  export_function<before>(env, exports, "before");
  export_function<after>(env, exports, "after");
  export_function<end>(env, exports, "end");
  export_function<rebuild>(env, exports, "rebuild");
  export_function<counters>(env, exports, "counters");
  export_function<close>(env, exports, "close");
  return exports;
}

}  // namespace spillway::prefetch

static Napi::Object spillway_prefetch_initialize(Napi::Env env, Napi::Object exports) {
  return spillway::prefetch::initialize(env, exports);
}
NODE_API_MODULE(spillway_prefetch, spillway_prefetch_initialize)
