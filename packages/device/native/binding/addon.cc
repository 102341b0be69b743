// The entry point of device.node. All functions: the JavaScript thread of one environment.
#include "instance.hpp"

namespace spillway::device::binding {

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Instance(env));
  export_device(env, exports);
  export_cuda(env, exports);
  export_check(env, exports);
  export_stream(env, exports);
  export_memory(env, exports);
  export_allocator(env, exports);
  export_host_memory(env, exports);
  return exports;
}

}  // namespace spillway::device::binding

static Napi::Object spillway_device_initialize(Napi::Env env, Napi::Object exports) {
  return spillway::device::binding::initialize(env, exports);
}
NODE_API_MODULE(spillway_device, spillway_device_initialize)
