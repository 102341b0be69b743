// What every function of the test addon needs: the table of the environment, and a launch.
#pragma once

#include <spillway/napi.hpp>
#include <vector>

namespace abi_probe {

struct Instance {
  const spillway_api* api = nullptr;
  spillway::Reference<spillway_buffer> kept;
  spillway::Reference<spillway_graph> graph;
  std::vector<spillway::Reference<spillway_timestamp>> timestamps;
};

inline Instance& instance(Napi::Env env) { return *env.GetInstanceData<Instance>(); }
inline const spillway_api* api(const Napi::CallbackInfo& info) { return instance(info.Env()).api; }
inline spillway_stream* stream_of(const Napi::Value& value) {
  return spillway::unbox<spillway_stream>(value, SPILLWAY_KIND_STREAM);
}

inline void launch(const spillway_api* api, spillway_stream* stream, const spillway_kernel& kernel,
                   const void* arguments, uint32_t argument_bytes, const std::vector<spillway_access>& accesses) {
  spillway_launch launch{};
  launch.struct_size = sizeof launch;
  launch.access_count = static_cast<uint32_t>(accesses.size());
  launch.kernel = &kernel;
  launch.arguments = arguments;
  launch.argument_bytes = argument_bytes;
  for (uint32_t i = 0; i < 3; ++i) {
    launch.grid[i] = 2 + i;
    launch.block[i] = 5 + i;
  }
  launch.accesses = accesses.data();
  spillway::check(api->launch, stream, &launch);
}

}  // namespace abi_probe
