// What comes through the table, checked before it is used: any addon may have sent anything.
#pragma once

#include "../device.hpp"
#include "../failure.hpp"
#include "../same_device.hpp"

namespace spillway::device {

template <typename T, typename Opaque>
T& as(Opaque* handle, const char* call) {
  if (handle == nullptr) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, call, "a handle is NULL");
  return *static_cast<T*>(reinterpret_cast<Object*>(handle));
}

template <typename Opaque>
Opaque* opaque(Object* object) {
  return reinterpret_cast<Opaque*>(object);
}

template <typename Struct>
void check_struct(const Struct* value, const char* call) {
  if (value == nullptr || value->struct_size < sizeof(Struct)) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, call, "a struct is NULL or its struct_size too small");
  }
}

// Before anything is created: it could not be handed over.
template <typename Handle>
void check_out(Handle** out, const char* call) {
  if (out == nullptr) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, call, "there is nowhere to put the handle: out is NULL");
}

inline void check_accesses(Stream& stream, const spillway_access* accesses, uint32_t count, const char* call) {
  for (uint32_t i = 0; i < count; ++i) same_device(stream, as<Buffer>(accesses[i].buffer, call), call);
}

}  // namespace spillway::device
