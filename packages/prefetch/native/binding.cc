// What JavaScript sees of the ring. All functions: the JavaScript thread of one environment.
#include <memory>
#include <spillway/napi.hpp>

#include "ring.hpp"
#include "tensor_moves.hpp"

namespace spillway::prefetch {
namespace {

constexpr napi_type_tag kRingTag = {0x5d0b4c2f8e91a637ull, 0x9a17c36e20d85bf4ull};

struct Instance {
  const spillway_api* api = nullptr;  // lives as long as the process
};

/// What JavaScript holds; `ring` is null after close.
struct RingBox {
  std::unique_ptr<Ring> ring;
};

RingBox& box_of(const Napi::Value& value) {
  if (!value.IsExternal() || !value.As<Napi::External<RingBox>>().CheckTypeTag(&kRingTag)) {
    throw_invalid(value.Env(), "expected a ring of @spillway/prefetch");
  }
  return *value.As<Napi::External<RingBox>>().Data();
}

Ring& ring_of(const Napi::Value& value) {
  RingBox& box = box_of(value);
  if (!box.ring) {
    throw StatusError(SPILLWAY_STATUS_CLOSED, "ring", "the offloader of this ring was disposed; make another");
  }
  return *box.ring;
}

spillway_stream* stream_of(const Napi::Value& value) { return unbox<spillway_stream>(value, SPILLWAY_KIND_STREAM); }

Napi::Array to_array(const Napi::Value& value, const char* what) {
  if (!value.IsArray()) throw_invalid(value.Env(), std::string(what) + " must be an array");
  return value.As<Napi::Array>();
}

// attach(table): before anything else
Napi::Value attach(const Napi::CallbackInfo& info) {
  info.Env().GetInstanceData<Instance>()->api = attach_api(info[0], sizeof(spillway_api), "@spillway/prefetch");
  return info.Env().Undefined();
}

// createRing(copyStream, slabs, bytes, slots): element i is the first bytes[i] bytes of slabs[i]
Napi::Value create_ring(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const spillway_api* api = env.GetInstanceData<Instance>()->api;
  if (api == nullptr) throw coded_error(env, "SPILLWAY_INVALID_STATE", "attach() comes before createRing()");
  Napi::Array slab_handles = to_array(info[1], "slabs");
  Napi::Array bytes = to_array(info[2], "bytes");
  Napi::Array slot_handles = to_array(info[3], "slots");
  if (slab_handles.Length() != bytes.Length()) throw_invalid(env, "slabs and bytes must have one length");
  std::vector<RingElement> elements;
  for (uint32_t i = 0; i < bytes.Length(); ++i) {
    elements.push_back({unbox_buffer(slab_handles.Get(i)), to_size(bytes.Get(i), "bytes")});
  }
  std::vector<spillway_buffer*> slots;
  for (uint32_t k = 0; k < slot_handles.Length(); ++k) slots.push_back(unbox_buffer(slot_handles.Get(k)));
  auto box = std::make_unique<RingBox>();
  box->ring = std::make_unique<Ring>(api, stream_of(info[0]), elements, slots);
  auto external = Napi::External<RingBox>::New(env, box.get(), [](Napi::BasicEnv, RingBox* dead) { delete dead; });
  static_cast<void>(box.release());  // the finalizer's from here on
  external.TypeTag(&kRingTag);
  return external;
}

// start(ring, stream)
Napi::Value start(const Napi::CallbackInfo& info) {
  ring_of(info[0]).start(stream_of(info[1]));
  return info.Env().Undefined();
}

// begin(ring, stream): whether the forward is timed
Napi::Value begin(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), ring_of(info[0]).begin(stream_of(info[1])));
}

// before(ring, element)
Napi::Value before(const Napi::CallbackInfo& info) {
  ring_of(info[0]).before(to_uint32(info[1], "element"));
  return info.Env().Undefined();
}

// after(ring, element)
Napi::Value after(const Napi::CallbackInfo& info) {
  ring_of(info[0]).after(to_uint32(info[1], "element"));
  return info.Env().Undefined();
}

// end(ring, ok)
Napi::Value end(const Napi::CallbackInfo& info) {
  ring_of(info[0]).end(info[1].ToBoolean());
  return info.Env().Undefined();
}

// rebuild(ring, slot, stream)
Napi::Value rebuild(const Napi::CallbackInfo& info) {
  ring_of(info[0]).rebuild(to_uint32(info[1], "slot"), stream_of(info[2]));
  return info.Env().Undefined();
}

// counters(ring)
Napi::Value counters(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const RingCounters& counters = ring_of(info[0]).counters();
  auto number = [env](uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); };
  Napi::Object result = Napi::Object::New(env);
  result.Set("onloads", number(counters.onloads));
  result.Set("onloadedBytes", number(counters.onloaded_bytes));
  result.Set("capturedOnloads", number(counters.captured_onloads));
  result.Set("demandOnloads", number(counters.demand_onloads));
  result.Set("resets", number(counters.resets));
  result.Set("forwards", number(counters.forwards));
  result.Set("failedForwards", number(counters.failed_forwards));
  return result;
}

// elementCounters(ring): an object for each element
Napi::Value element_counters(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::vector<ElementCounters>& counters = ring_of(info[0]).element_counters();
  Napi::Array result = Napi::Array::New(env, counters.size());
  for (uint32_t i = 0; i < counters.size(); ++i) {
    Napi::Object element = Napi::Object::New(env);
    element.Set("onloads", Napi::Number::New(env, static_cast<double>(counters[i].onloads)));
    element.Set("demandOnloads", Napi::Number::New(env, static_cast<double>(counters[i].demand_onloads)));
    result.Set(i, element);
  }
  return result;
}

// elementTimes(ring): milliseconds of link and of wait for each element, one after another; NaN: not measured
Napi::Value element_times(const Napi::CallbackInfo& info) {
  const std::vector<ElementTimes>& times = ring_of(info[0]).timer().times();
  Napi::Float64Array result = Napi::Float64Array::New(info.Env(), 2 * times.size());
  for (size_t i = 0; i < times.size(); ++i) {
    result[2 * i] = times[i].link_ms;
    result[2 * i + 1] = times[i].wait_ms;
  }
  return result;
}

// canTime(ring)
Napi::Value can_time(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), ring_of(info[0]).timer().can_time());
}

// beginTrace(ring): anew
Napi::Value begin_trace(const Napi::CallbackInfo& info) {
  ring_of(info[0]).begin_trace();
  return info.Env().Undefined();
}

// endTrace(ring): kind, label and milliseconds of each mark, one after another
Napi::Value end_trace(const Napi::CallbackInfo& info) {
  const std::vector<TraceMark> marks = ring_of(info[0]).timer().end_trace();
  Napi::Float64Array result = Napi::Float64Array::New(info.Env(), 3 * marks.size());
  for (size_t i = 0; i < marks.size(); ++i) {
    result[3 * i] = marks[i].kind;
    result[3 * i + 1] = marks[i].label;
    result[3 * i + 2] = marks[i].ms;
  }
  return result;
}

// mark(ring, kind, label): on the stream of the open forward
Napi::Value mark(const Napi::CallbackInfo& info) {
  ring_of(info[0]).mark(to_uint32(info[1], "kind"), to_uint32(info[2], "label"));
  return info.Env().Undefined();
}

// gatherScatter(stream, tensors): each is [from, fromOffset, fromStride, to, toOffset, toStride, shape, elementBytes],
// with offsets in bytes and strides in elements
Napi::Value gather_scatter_tensors(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const spillway_api* api = env.GetInstanceData<Instance>()->api;
  if (api == nullptr) throw coded_error(env, "SPILLWAY_INVALID_STATE", "attach() comes before gatherScatter()");
  Napi::Array list = to_array(info[1], "tensors");
  std::vector<TensorMove> tensors(list.Length());
  for (uint32_t i = 0; i < list.Length(); ++i) {
    Napi::Array fields = to_array(list.Get(i), "a tensor");
    TensorMove& tensor = tensors[i];
    tensor.from = unbox_buffer(fields.Get(0u));
    tensor.from_offset = to_size(fields.Get(1u), "fromOffset");
    tensor.to = unbox_buffer(fields.Get(3u));
    tensor.to_offset = to_size(fields.Get(4u), "toOffset");
    tensor.element_bytes = to_size(fields.Get(7u), "elementBytes");
    if (tensor.element_bytes != 1 && tensor.element_bytes != 2 && tensor.element_bytes != 4 &&
        tensor.element_bytes != 8) {
      throw_invalid(env, "elementBytes must be 1, 2, 4 or 8");
    }
    Napi::Array from_stride = to_array(fields.Get(2u), "fromStride");
    Napi::Array to_stride = to_array(fields.Get(5u), "toStride");
    Napi::Array shape = to_array(fields.Get(6u), "shape");
    if (from_stride.Length() != shape.Length() || to_stride.Length() != shape.Length()) {
      throw_invalid(env, "shape and strides must have one length");
    }
    // Each product is below 2^56.
    for (uint32_t d = 0; d < shape.Length(); ++d) {
      tensor.dimensions.push_back({to_size(shape.Get(d), "a length"),
                                   to_size(from_stride.Get(d), "a stride") * tensor.element_bytes,
                                   to_size(to_stride.Get(d), "a stride") * tensor.element_bytes});
    }
  }
  gather_scatter(api, stream_of(info[0]), tensors);
  return env.Undefined();
}

// close(ring): gives up its buffers, streams and events now, not when the garbage collector comes by
Napi::Value close(const Napi::CallbackInfo& info) {
  box_of(info[0]).ring.reset();
  return info.Env().Undefined();
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
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
  export_function<element_counters>(env, exports, "elementCounters");
  export_function<element_times>(env, exports, "elementTimes");
  export_function<can_time>(env, exports, "canTime");
  export_function<begin_trace>(env, exports, "beginTrace");
  export_function<end_trace>(env, exports, "endTrace");
  export_function<mark>(env, exports, "mark");
  export_function<gather_scatter_tensors>(env, exports, "gatherScatter");
  export_function<close>(env, exports, "close");
  return exports;
}

}  // namespace
}  // namespace spillway::prefetch

static Napi::Object spillway_prefetch_initialize(Napi::Env env, Napi::Object exports) {
  return spillway::prefetch::initialize(env, exports);
}
NODE_API_MODULE(spillway_prefetch, spillway_prefetch_initialize)
