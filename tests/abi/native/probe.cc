// The binding of the test addon. It meets the device over the table only: nothing here links against it.
#include <atomic>
#include <cstring>
#include <vector>

#include "instance.hpp"
#include "kernels.hpp"
#include "plain_consumers.h"
#include "planted_defects.hpp"
#include "tables.hpp"
#include "touch.hpp"

namespace abi_probe {
namespace {

using spillway::check;
using spillway::Reference;

spillway_device* device_of(const Napi::Value& value) {
  return spillway::unbox<spillway_device>(value, SPILLWAY_KIND_DEVICE);
}

// attach(table, neededBytes?)
Napi::Value attach(const Napi::CallbackInfo& info) {
  uint32_t needed = info[1].IsUndefined() ? sizeof(spillway_api) : spillway::to_uint32(info[1], "neededBytes");
  instance(info.Env()).api = spillway::attach_api(info[0], needed, "the test addon");
  return info.Env().Undefined();
}

template <typename Arguments>
void launch(const spillway_api* api, spillway_stream* stream, const spillway_kernel& kernel, const Arguments& arguments,
            const std::vector<spillway_access>& accesses) {
  abi_probe::launch(api, stream, kernel, &arguments, sizeof arguments, accesses);
}

// saxpy(stream, x, y, count, a, xMode = READ, xBytes = 4 * count)
Napi::Value saxpy(const Napi::CallbackInfo& info) {
  const spillway_api* table = api(info);
  auto* x = spillway::unbox_buffer(info[1]);
  auto* y = spillway::unbox_buffer(info[2]);
  uint64_t count = spillway::to_size(info[3], "count");
  uint32_t mode = info[5].IsUndefined() ? SPILLWAY_ACCESS_READ : spillway::to_uint32(info[5], "xMode");
  uint64_t bytes = info[6].IsUndefined() ? count * 4 : spillway::to_size(info[6], "xBytes");
  SaxpyArguments arguments{reinterpret_cast<const float*>(spillway::describe(table, x).device_address),
                           reinterpret_cast<float*>(spillway::describe(table, y).device_address), count,
                           spillway::to_float(info[4], "a")};
  launch(table, stream_of(info[0]), kSaxpy, arguments,
         {{x, 0, bytes, mode, 0}, {y, 0, count * 4, SPILLWAY_ACCESS_READ | SPILLWAY_ACCESS_WRITE, 0}});
  // Arguments are copied when enqueued.
  arguments = {nullptr, nullptr, 0, 0};
  return info.Env().Undefined();
}

// cover(stream, visits, count, grain)
Napi::Value cover(const Napi::CallbackInfo& info) {
  auto* visits = spillway::unbox_buffer(info[1]);
  spillway_buffer_info described = spillway::describe(api(info), visits);
  launch(api(info), stream_of(info[0]), kCover,
         CoverArguments{reinterpret_cast<uint32_t*>(described.device_address), spillway::to_size(info[2], "count"),
                        spillway::to_size(info[3], "grain")},
         {{visits, 0, described.bytes, SPILLWAY_ACCESS_READ | SPILLWAY_ACCESS_WRITE, 0}});
  return info.Env().Undefined();
}

// context(stream, out): out is u64 [10]
Napi::Value context(const Napi::CallbackInfo& info) {
  auto* out = spillway::unbox_buffer(info[1]);
  ContextArguments arguments{};
  arguments.first = 1.5L;
  arguments.out = reinterpret_cast<uint64_t*>(spillway::describe(api(info), out).device_address);
  launch(api(info), stream_of(info[0]), kContext, arguments, {{out, 0, 80, SPILLWAY_ACCESS_WRITE, 0}});
  return info.Env().Undefined();
}

// noTwin(stream)
Napi::Value no_twin(const Napi::CallbackInfo& info) {
  launch(api(info), stream_of(info[0]), kNoTwin, uint64_t{0}, {});
  return info.Env().Undefined();
}

// keep(buffer): from now on this addon holds a reference of its own
Napi::Value keep(const Napi::CallbackInfo& info) {
  instance(info.Env()).kept = Reference<spillway_buffer>::retain(api(info), spillway::unbox_buffer(info[0]));
  return info.Env().Undefined();
}
// useKept(stream, to): copies what is kept to `to`, in C99
Napi::Value use_kept(const Napi::CallbackInfo& info) {
  check(c99_copy, api(info), stream_of(info[0]), spillway::unbox_buffer(info[1]), instance(info.Env()).kept.get());
  return info.Env().Undefined();
}
Napi::Value let_go(const Napi::CallbackInfo& info) {
  instance(info.Env()).kept = {};
  return info.Env().Undefined();
}

// fill(stream, to, value), in C++17
Napi::Value fill(const Napi::CallbackInfo& info) {
  check(cxx17_fill, api(info), stream_of(info[0]), spillway::unbox_buffer(info[1]),
        static_cast<uint8_t>(spillway::to_uint32(info[2], "value")));
  return info.Env().Undefined();
}

// extension(device, name, minStructSize): is there one
Napi::Value extension(const Napi::CallbackInfo& info) {
  std::string name = info[1].As<Napi::String>();
  const void* table = api(info)->extension(device_of(info[0]), name.c_str(), spillway::to_uint32(info[2], "size"));
  return Napi::Boolean::New(info.Env(), table != nullptr);
}

const spillway_graph_api* graph_api(const Napi::CallbackInfo& info, spillway_stream* stream) {
  auto* device = api(info)->device_of(reinterpret_cast<spillway_object*>(stream));
  return static_cast<const spillway_graph_api*>(
      api(info)->extension(device, SPILLWAY_EXTENSION_GRAPH, sizeof(spillway_graph_api)));
}
// beginCapture(stream)
Napi::Value begin_capture(const Napi::CallbackInfo& info) {
  auto* stream = stream_of(info[0]);
  check(graph_api(info, stream)->begin_capture, stream);
  return info.Env().Undefined();
}
// endCapture(stream): the graph stays here; returns how many nodes it has
Napi::Value end_capture(const Napi::CallbackInfo& info) {
  auto* stream = stream_of(info[0]);
  spillway_graph* graph = nullptr;
  check(graph_api(info, stream)->end_capture, stream, &graph);
  instance(info.Env()).graph = Reference<spillway_graph>::adopt(api(info), graph);
  return Napi::Number::New(info.Env(), graph_api(info, stream)->node_count(graph));
}
// replay(stream)
Napi::Value replay(const Napi::CallbackInfo& info) {
  auto* stream = stream_of(info[0]);
  check(graph_api(info, stream)->launch, instance(info.Env()).graph.get(), stream);
  return info.Env().Undefined();
}
// replays(stream): launches of graphs that hold work of it
Napi::Value replays(const Napi::CallbackInfo& info) {
  auto* stream = stream_of(info[0]);
  return Napi::Number::New(info.Env(), static_cast<double>(graph_api(info, stream)->replays(stream)));
}
Napi::Value drop_graph(const Napi::CallbackInfo& info) {
  instance(info.Env()).graph = {};
  return info.Env().Undefined();
}

const spillway_timing_api* timing_api(const Napi::CallbackInfo& info, spillway_device* device) {
  const void* table = api(info)->extension(device, SPILLWAY_EXTENSION_TIMING, sizeof(spillway_timing_api));
  return static_cast<const spillway_timing_api*>(table);
}
spillway_timestamp* timestamp_of(const Napi::CallbackInfo& info, size_t argument) {
  return instance(info.Env()).timestamps.at(spillway::to_uint32(info[argument], "timestamp")).get();
}
// createTimestamp(device): the timestamp stays here; returns its number
Napi::Value create_timestamp(const Napi::CallbackInfo& info) {
  spillway_timestamp* timestamp = nullptr;
  check(timing_api(info, device_of(info[0]))->create, device_of(info[0]), &timestamp);
  auto& all = instance(info.Env()).timestamps;
  all.push_back(Reference<spillway_timestamp>::adopt(api(info), timestamp));
  return Napi::Number::New(info.Env(), static_cast<double>(all.size() - 1));
}
// recordTimestamp(number, stream)
Napi::Value record_timestamp(const Napi::CallbackInfo& info) {
  auto* stream = stream_of(info[1]);
  spillway_device* device = api(info)->device_of(reinterpret_cast<spillway_object*>(stream));
  check(timing_api(info, device)->record, timestamp_of(info, 0), stream);
  return info.Env().Undefined();
}
// elapsedMs(device, from, to): NaN for not yet
Napi::Value elapsed_ms(const Napi::CallbackInfo& info) {
  double ms = 0;
  check(timing_api(info, device_of(info[0]))->elapsed, timestamp_of(info, 1), timestamp_of(info, 2), &ms);
  return Napi::Number::New(info.Env(), ms);
}
// hostileTiming(device, stream, timestamp): statuses of calls that break the rules in ways the table must survive
Napi::Value hostile_timing(const Napi::CallbackInfo& info) {
  const spillway_timing_api* timing = timing_api(info, device_of(info[0]));
  auto* timestamp = timestamp_of(info, 2);
  double ms = 0;
  const spillway_status statuses[] = {
      timing->create(device_of(info[0]), nullptr, nullptr),    timing->create(nullptr, &timestamp, nullptr),
      timing->record(nullptr, stream_of(info[1]), nullptr),    timing->record(timestamp, nullptr, nullptr),
      timing->elapsed(nullptr, timestamp, &ms, nullptr),       timing->elapsed(timestamp, nullptr, &ms, nullptr),
      timing->elapsed(timestamp, timestamp, nullptr, nullptr),
  };
  Napi::Array result = Napi::Array::New(info.Env());
  for (spillway_status status : statuses) result.Set(result.Length(), Napi::Number::New(info.Env(), status));
  return result;
}
Napi::Value drop_timestamps(const Napi::CallbackInfo& info) {
  instance(info.Env()).timestamps.clear();
  return info.Env().Undefined();
}

// failWithError(device, errorBytes): fails a call with an error struct of that size, inside a larger block of 0xaa;
// returns {status, block}. Size 0: without an error struct.
Napi::Value fail_with_error(const Napi::CallbackInfo& info) {
  alignas(spillway_error) uint8_t block[sizeof(spillway_error) + 64];
  std::memset(block, 0xaa, sizeof block);
  uint32_t size = spillway::to_uint32(info[1], "errorBytes");
  auto* error = size == 0 ? nullptr : reinterpret_cast<spillway_error*>(block);
  if (error) error->struct_size = size;
  spillway_stream* stream = nullptr;
  spillway_status status = api(info)->stream_create(device_of(info[0]), 77, &stream, error);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("status", Napi::Number::New(info.Env(), status));
  result.Set("block", Napi::Buffer<uint8_t>::Copy(info.Env(), block, sizeof block));
  return result;
}

// hostileCalls(device, stream): statuses of calls that break the rules in ways the table must survive
Napi::Value hostile_calls(const Napi::CallbackInfo& info) {
  const spillway_api* table = api(info);
  auto* device = device_of(info[0]);
  auto* stream = stream_of(info[1]);
  std::vector<spillway_status> statuses;
  spillway_buffer* buffer = nullptr;
  spillway_allocation allocation{};
  allocation.struct_size = 8;
  allocation.storage = SPILLWAY_STORAGE_DEVICE;
  allocation.bytes = 1;
  allocation.tag = "x";
  statuses.push_back(table->buffer_create(device, &allocation, &buffer, nullptr));
  allocation.struct_size = sizeof allocation;
  allocation.tag = nullptr;
  statuses.push_back(table->buffer_create(device, &allocation, &buffer, nullptr));
  allocation.tag = "x";
  allocation.storage = 9;
  statuses.push_back(table->buffer_create(device, &allocation, &buffer, nullptr));
  allocation.storage = SPILLWAY_STORAGE_DEVICE;
  statuses.push_back(table->buffer_create(nullptr, &allocation, &buffer, nullptr));
  statuses.push_back(table->buffer_create(device, nullptr, &buffer, nullptr));
  statuses.push_back(table->buffer_create(device, &allocation, nullptr, nullptr));
  statuses.push_back(table->stream_create(device, SPILLWAY_PRIORITY_LOW, nullptr, nullptr));
  statuses.push_back(table->fill(stream, nullptr, 0, 1, 0, nullptr));
  statuses.push_back(table->copy(stream, nullptr, 1, nullptr));
  statuses.push_back(table->launch(stream, nullptr, nullptr));
  spillway_launch launch{};
  launch.struct_size = sizeof launch;
  statuses.push_back(table->launch(stream, &launch, nullptr));
  launch.kernel = &kSaxpy;
  launch.argument_bytes = 4097;
  statuses.push_back(table->launch(stream, &launch, nullptr));
  launch.argument_bytes = 0;
  launch.access_count = 1;
  statuses.push_back(table->launch(stream, &launch, nullptr));
  Napi::Array result = Napi::Array::New(info.Env(), statuses.size());
  for (uint32_t i = 0; i < statuses.size(); ++i) result.Set(i, Napi::Number::New(info.Env(), statuses[i]));
  return result;
}

// rawStream(stream, buffer): the GPU's CUstream, by way of work that reads the buffer and does nothing
Napi::Value raw_stream(const Napi::CallbackInfo& info) {
  auto* stream = stream_of(info[0]);
  spillway_device* device = api(info)->device_of(reinterpret_cast<spillway_object*>(stream));
  const auto* cuda = static_cast<const spillway_cuda_api*>(
      api(info)->extension(device, SPILLWAY_EXTENSION_CUDA, sizeof(spillway_cuda_api)));
  if (cuda == nullptr) spillway::throw_invalid(info.Env(), "not a GPU");
  spillway_buffer* buffer = spillway::unbox_buffer(info[1]);
  const spillway_access access = {buffer, 0, spillway::describe(api(info), buffer).bytes, SPILLWAY_ACCESS_READ, 0};
  void* raw = nullptr;
  check(
      cuda->enqueue, stream, &access, 1u,
      [](void* state, void* given) -> spillway_status {
        *static_cast<void**>(state) = given;
        return SPILLWAY_STATUS_OK;
      },
      static_cast<void*>(&raw));
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(reinterpret_cast<uintptr_t>(raw)));
}

std::atomic<uint32_t> notifications{0};

// notify(stream)
Napi::Value notify(const Napi::CallbackInfo& info) {
  check(
      api(info)->stream_notify, stream_of(info[0]),
      [](void* state, spillway_status status) {
        if (status == SPILLWAY_STATUS_OK) static_cast<std::atomic<uint32_t>*>(state)->fetch_add(1);
      },
      static_cast<void*>(&notifications));
  return info.Env().Undefined();
}
Napi::Value notified(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), notifications.load()); }

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Instance());
  spillway::export_function<attach>(env, exports, "attach");
  spillway::export_function<make_table>(env, exports, "makeTable");
  spillway::export_function<table_without_timing>(env, exports, "tableWithoutTiming");
  spillway::export_function<make_box>(env, exports, "makeBox");
  spillway::export_function<saxpy>(env, exports, "saxpy");
  spillway::export_function<cover>(env, exports, "cover");
  spillway::export_function<context>(env, exports, "context");
  spillway::export_function<no_twin>(env, exports, "noTwin");
  spillway::export_function<keep>(env, exports, "keep");
  spillway::export_function<use_kept>(env, exports, "useKept");
  spillway::export_function<let_go>(env, exports, "letGo");
  spillway::export_function<fill>(env, exports, "fill");
  spillway::export_function<extension>(env, exports, "extension");
  spillway::export_function<begin_capture>(env, exports, "beginCapture");
  spillway::export_function<end_capture>(env, exports, "endCapture");
  spillway::export_function<replay>(env, exports, "replay");
  spillway::export_function<replays>(env, exports, "replays");
  spillway::export_function<drop_graph>(env, exports, "dropGraph");
  spillway::export_function<create_timestamp>(env, exports, "createTimestamp");
  spillway::export_function<record_timestamp>(env, exports, "recordTimestamp");
  spillway::export_function<elapsed_ms>(env, exports, "elapsedMs");
  spillway::export_function<hostile_timing>(env, exports, "hostileTiming");
  spillway::export_function<drop_timestamps>(env, exports, "dropTimestamps");
  spillway::export_function<fail_with_error>(env, exports, "failWithError");
  spillway::export_function<touch>(env, exports, "touch");
  spillway::export_function<address>(env, exports, "address");
  spillway::export_function<planted_defect>(env, exports, "plantedDefect");
  spillway::export_function<hostile_calls>(env, exports, "hostileCalls");
  spillway::export_function<raw_stream>(env, exports, "rawStream");
  spillway::export_function<notify>(env, exports, "notify");
  spillway::export_function<notified>(env, exports, "notified");
  return exports;
}

}  // namespace
}  // namespace abi_probe

static Napi::Object abi_probe_initialize(Napi::Env env, Napi::Object exports) {
  return abi_probe::initialize(env, exports);
}
NODE_API_MODULE(abi_probe, abi_probe_initialize)
