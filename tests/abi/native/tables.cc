#include "tables.hpp"

namespace abi_probe {

Napi::Value make_table(const Napi::CallbackInfo& info) {
  auto* table = new spillway_api{};
  table->abi_major = static_cast<uint16_t>(spillway::to_uint32(info[0], "major"));
  table->abi_minor = static_cast<uint16_t>(spillway::to_uint32(info[1], "minor"));
  table->struct_size = spillway::to_uint32(info[2], "structSize");
  auto external =
      Napi::External<spillway_api>::New(info.Env(), table, [](Napi::BasicEnv, spillway_api* dead) { delete dead; });
  if (info[3].ToBoolean()) external.TypeTag(&spillway::kApiTag);
  return external;
}

Napi::Value make_box(const Napi::CallbackInfo& info) {
  static constexpr napi_type_tag kOtherTag = {1, 2};
  // Never read where the tag is checked first: following it would crash.
  auto external = Napi::External<void>::New(info.Env(), reinterpret_cast<void*>(uintptr_t{8}));
  external.TypeTag(&kOtherTag);
  return external;
}

}  // namespace abi_probe
