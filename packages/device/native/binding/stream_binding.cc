#include "../same_device.hpp"
#include "instance.hpp"

namespace spillway::device::binding {
namespace {

Stream& stream_of(const Napi::Value& value) { return object_of<Stream>(value, SPILLWAY_KIND_STREAM); }

// streamCreate(device, priority)
Napi::Value stream_create(const Napi::CallbackInfo& info) {
  auto& device = object_of<Device>(info[0], SPILLWAY_KIND_DEVICE);
  return make_handle(info.Env(), device.create_stream(to_uint32(info[1], "priority")));
}

// eventCreate(device)
Napi::Value event_create(const Napi::CallbackInfo& info) {
  return make_handle(info.Env(), object_of<Device>(info[0], SPILLWAY_KIND_DEVICE).create_event());
}

// record(stream, event, external)
Napi::Value record(const Napi::CallbackInfo& info) {
  Stream& stream = stream_of(info[0]);
  auto& event = object_of<Event>(info[1], SPILLWAY_KIND_EVENT);
  same_device(stream, event, "event_record");
  stream.record(event, info[2].ToBoolean());
  return info.Env().Undefined();
}

// wait(stream, event, external)
Napi::Value wait(const Napi::CallbackInfo& info) {
  Stream& stream = stream_of(info[0]);
  auto& event = object_of<Event>(info[1], SPILLWAY_KIND_EVENT);
  same_device(stream, event, "event_wait");
  stream.wait(event, info[2].ToBoolean());
  return info.Env().Undefined();
}

// copy(stream, to, toOffset, from, fromOffset, bytes)
Napi::Value copy(const Napi::CallbackInfo& info) {
  Stream& stream = stream_of(info[0]);
  Buffer& to = buffer_of(info[1]);
  Buffer& from = buffer_of(info[3]);
  same_device(stream, to, "copy");
  same_device(stream, from, "copy");
  stream.copy({{&to, to_size(info[2], "toOffset"), &from, to_size(info[4], "fromOffset"), to_size(info[5], "bytes")}});
  return info.Env().Undefined();
}

// copyBatch(stream, [to, toOffset, from, fromOffset, bytes, …])
Napi::Value copy_batch(const Napi::CallbackInfo& info) {
  Stream& stream = stream_of(info[0]);
  auto flat = info[1].As<Napi::Array>();
  std::vector<Copy> copies;
  copies.reserve(flat.Length() / 5);
  for (uint32_t i = 0; i + 4 < flat.Length(); i += 5) {
    Buffer& to = buffer_of(flat.Get(i));
    Buffer& from = buffer_of(flat.Get(i + 2));
    same_device(stream, to, "copy");
    same_device(stream, from, "copy");
    copies.push_back({&to, to_size(flat.Get(i + 1), "toOffset"), &from, to_size(flat.Get(i + 3), "fromOffset"),
                      to_size(flat.Get(i + 4), "bytes")});
  }
  stream.copy(copies);
  return info.Env().Undefined();
}

// fill(stream, to, offset, bytes, value)
Napi::Value fill_bytes(const Napi::CallbackInfo& info) {
  Stream& stream = stream_of(info[0]);
  Buffer& to = buffer_of(info[1]);
  same_device(stream, to, "fill");
  uint32_t value = to_uint32(info[4], "byte");
  if (value > 255) throw_invalid(info.Env(), "byte must be from 0 to 255");
  stream.fill(to, to_size(info[2], "offset"), to_size(info[3], "bytes"), static_cast<uint8_t>(value));
  return info.Env().Undefined();
}

// notify(stream): resolves when everything enqueued so far is done
Napi::Value notify(const Napi::CallbackInfo& info) {
  Stream& stream = stream_of(info[0]);
  Settler& settler = instance(info.Env()).settler;
  Settler::Pending pending = settler.open(info.Env());
  try {
    stream.notify([ticket = pending.ticket, wait = stream.begin_host_wait()](spillway_status status) {
      // The host goes on when the promise settles, not when the stream's thread gets here.
      ticket->settle([wait, status](Napi::Env env, const Napi::Promise::Deferred& deferred) {
        if (wait) wait();
        if (status != SPILLWAY_STATUS_OK) {
          fail(status, "stream_notify",
               "the work of this stream failed, and the device is lost; start the process again");
        }
        deferred.Resolve(env.Undefined());
      });
    });
  } catch (...) {
    settler.cancel(info.Env(), pending.ticket);
    throw;
  }
  return pending.promise;
}

Napi::Value capturing(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), stream_of(info[0]).capturing());
}

Napi::Value begin_capture(const Napi::CallbackInfo& info) {
  stream_of(info[0]).begin_capture();
  return info.Env().Undefined();
}

Napi::Value end_capture(const Napi::CallbackInfo& info) {
  return make_handle(info.Env(), stream_of(info[0]).end_capture());
}

// launchGraph(stream, graph)
Napi::Value launch_graph(const Napi::CallbackInfo& info) {
  Stream& stream = stream_of(info[0]);
  auto& graph = object_of<Graph>(info[1], SPILLWAY_KIND_GRAPH);
  same_device(stream, graph, "graph_launch");
  stream.replay(graph);
  return info.Env().Undefined();
}

Napi::Value node_count(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), object_of<Graph>(info[0], SPILLWAY_KIND_GRAPH).node_count());
}

}  // namespace

void export_stream(Napi::Env env, Napi::Object exports) {
  export_function<stream_create>(env, exports, "streamCreate");
  export_function<event_create>(env, exports, "eventCreate");
  export_function<record>(env, exports, "record");
  export_function<wait>(env, exports, "wait");
  export_function<copy>(env, exports, "copy");
  export_function<copy_batch>(env, exports, "copyBatch");
  export_function<fill_bytes>(env, exports, "fill");
  export_function<notify>(env, exports, "notify");
  export_function<capturing>(env, exports, "capturing");
  export_function<begin_capture>(env, exports, "beginCapture");
  export_function<end_capture>(env, exports, "endCapture");
  export_function<launch_graph>(env, exports, "launchGraph");
  export_function<node_count>(env, exports, "nodeCount");
}

}  // namespace spillway::device::binding
