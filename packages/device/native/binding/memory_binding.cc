#include <cstring>
#include <string>

#include "../same_device.hpp"
#include "instance.hpp"

namespace spillway::device::binding {
namespace {

std::string tag_of(const Napi::Value& value) {
  std::string tag = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (tag.empty() || tag.size() > 63) throw_invalid(value.Env(), "a tag is a string of 1 to 63 bytes");
  return tag;
}

// bufferCreate(device, bytes, tag, stream | undefined, pool, settings)
Napi::Value buffer_create(const Napi::CallbackInfo& info) {
  auto& device = object_of<Device>(info[0], SPILLWAY_KIND_DEVICE);
  Stream* stream = nullptr;
  if (!info[3].IsUndefined()) {
    stream = &object_of<Stream>(info[3], SPILLWAY_KIND_STREAM);
    same_device(device, *stream, "buffer_create");
  }
  uint64_t bytes = to_size(info[1], "bytes");
  const std::string tag = tag_of(info[2]);
  const std::string pool = info[4].As<Napi::String>();
  const AllocatorSettings settings = settings_of(info[5]);
  return make_handle(info.Env(), device.create_device_buffer({bytes, tag, stream, pool, settings}));
}

// bufferInfo(buffer): [bytes, storage, pointer]
Napi::Value buffer_info(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  spillway_buffer_info description = buffer_of(info[0]).info();
  Napi::Array result = Napi::Array::New(env, 3);
  result.Set(0u, Napi::Number::New(env, static_cast<double>(description.bytes)));
  result.Set(1u, Napi::Number::New(env, description.storage));
  result.Set(2u, Napi::BigInt::New(env, description.device_address));
  return result;
}

Buffer& host_buffer_of(const Napi::Value& value, uint64_t offset, uint64_t bytes) {
  auto& buffer = object_of<Buffer>(value, SPILLWAY_KIND_HOST_BUFFER);
  const uint64_t all = buffer.info().bytes;
  if (offset > all || bytes > all - offset) {
    throw_invalid(value.Env(), std::to_string(bytes) + " bytes at offset " + std::to_string(offset) +
                                   " lie outside a buffer of " + std::to_string(all) + " bytes");
  }
  return buffer;
}

Napi::Uint8Array uint8_array_of(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw_invalid(value.Env(), std::string("the ") + name + " must be a Uint8Array");
  }
  return value.As<Napi::Uint8Array>();
}

// hostWrite(buffer, offset, source: Uint8Array)
Napi::Value host_write(const Napi::CallbackInfo& info) {
  const Napi::Uint8Array source = uint8_array_of(info[2], "source");
  const uint64_t offset = to_size(info[1], "offset");
  Ref<Buffer> target(&host_buffer_of(info[0], offset, source.ByteLength()));
  auto access = target->begin_host_access(offset, source.ByteLength(), SPILLWAY_ACCESS_WRITE);
  auto* data = static_cast<uint8_t*>(target->info().host_address);
  if (source.ByteLength() > 0) std::memcpy(data + offset, source.Data(), source.ByteLength());
  return info.Env().Undefined();
}

void read_into(const Napi::Value& buffer, uint64_t offset, Napi::Uint8Array target) {
  const uint64_t bytes = target.ByteLength();
  Ref<Buffer> source(&host_buffer_of(buffer, offset, bytes));
  auto access = source->begin_host_access(offset, bytes, SPILLWAY_ACCESS_READ);
  const auto* data = static_cast<const uint8_t*>(source->info().host_address);
  if (bytes > 0) std::memcpy(target.Data(), data + offset, bytes);
}

// hostRead(buffer, offset, bytes): Uint8Array, a copy
Napi::Value host_read(const Napi::CallbackInfo& info) {
  const uint64_t offset = to_size(info[1], "offset");
  const uint64_t bytes = to_size(info[2], "bytes");
  // Before memory is taken for what may not be there.
  static_cast<void>(host_buffer_of(info[0], offset, bytes));
  auto result = Napi::Uint8Array::New(info.Env(), bytes);
  read_into(info[0], offset, result);
  return result;
}

// hostReadInto(buffer, offset, target): as many bytes as the target, a Uint8Array, has
Napi::Value host_read_into(const Napi::CallbackInfo& info) {
  read_into(info[0], to_size(info[1], "offset"), uint8_array_of(info[2], "target"));
  return info.Env().Undefined();
}

AddressRange& range_of(const Napi::Value& value) { return object_of<AddressRange>(value, SPILLWAY_KIND_ADDRESS_RANGE); }

Napi::Value granularity(const Napi::CallbackInfo& info) {
  auto& device = object_of<Device>(info[0], SPILLWAY_KIND_DEVICE);
  return Napi::Number::New(info.Env(), static_cast<double>(device.virtual_memory_granularity()));
}

// reserve(device, bytes)
Napi::Value reserve(const Napi::CallbackInfo& info) {
  auto& device = object_of<Device>(info[0], SPILLWAY_KIND_DEVICE);
  return make_handle(info.Env(), device.reserve(to_size(info[1], "bytes")));
}

// createPhysical(device, bytes, tag)
Napi::Value create_physical(const Napi::CallbackInfo& info) {
  auto& device = object_of<Device>(info[0], SPILLWAY_KIND_DEVICE);
  return make_handle(info.Env(), device.create_physical(to_size(info[1], "bytes"), tag_of(info[2])));
}

// map(range, offset, physical)
Napi::Value map(const Napi::CallbackInfo& info) {
  AddressRange& range = range_of(info[0]);
  auto& memory = object_of<PhysicalMemory>(info[2], SPILLWAY_KIND_PHYSICAL_MEMORY);
  same_device(range, memory, "map");
  range.map(to_size(info[1], "offset"), memory);
  return info.Env().Undefined();
}

// unmap(range, offset, bytes)
Napi::Value unmap(const Napi::CallbackInfo& info) {
  range_of(info[0]).unmap(to_size(info[1], "offset"), to_size(info[2], "bytes"));
  return info.Env().Undefined();
}

// rangeBuffer(range, offset, bytes)
Napi::Value range_buffer(const Napi::CallbackInfo& info) {
  return make_handle(info.Env(),
                     range_of(info[0]).create_buffer(to_size(info[1], "offset"), to_size(info[2], "bytes")));
}

}  // namespace

void export_memory(Napi::Env env, Napi::Object exports) {
  export_function<buffer_create>(env, exports, "bufferCreate");
  export_function<buffer_info>(env, exports, "bufferInfo");
  export_function<host_write>(env, exports, "hostWrite");
  export_function<host_read>(env, exports, "hostRead");
  export_function<host_read_into>(env, exports, "hostReadInto");
  export_function<granularity>(env, exports, "granularity");
  export_function<reserve>(env, exports, "reserve");
  export_function<create_physical>(env, exports, "createPhysical");
  export_function<map>(env, exports, "map");
  export_function<unmap>(env, exports, "unmap");
  export_function<range_buffer>(env, exports, "rangeBuffer");
}

}  // namespace spillway::device::binding
