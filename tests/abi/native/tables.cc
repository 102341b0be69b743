#include "tables.hpp"

#include <cstring>

#include "instance.hpp"

namespace abi_probe {
namespace {

// What JavaScript attached, for the table below, which has the life of the process as every table has.
const spillway_api* whole = nullptr;

const void* extension_but_timing(spillway_device* device, const char* name, uint32_t min_struct_size) {
  if (name && std::strcmp(name, SPILLWAY_EXTENSION_TIMING) == 0) return nullptr;
  return whole->extension(device, name, min_struct_size);
}

}  // namespace

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

Napi::Value table_without_timing(const Napi::CallbackInfo& info) {
  whole = api(info);
  static spillway_api table = *whole;
  table.extension = extension_but_timing;
  auto external = Napi::External<spillway_api>::New(info.Env(), &table);
  external.TypeTag(&spillway::kApiTag);
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
