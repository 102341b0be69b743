// What only GPUs have.
#include <string>

#include "../cuda/confidential_computing.hpp"
#include "../cuda/cuda_device.hpp"
#include "../cuda/cuda_stream.hpp"
#include "../cuda/status.hpp"
#include "../same_device.hpp"
#include "instance.hpp"

namespace spillway::device::binding {
namespace {

cuda::CudaDevice& cuda_of(const Napi::Value& device, const char* call) {
  return cuda::CudaDevice::of(object_of<Device>(device, SPILLWAY_KIND_DEVICE), call);
}

uint64_t to_address(const Napi::Value& value, const char* what) {
  bool lossless = false;
  if (value.IsBigInt()) {
    const uint64_t address = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (lossless) return address;
  }
  throw_invalid(value.Env(), std::string(what) + " must be a bigint from 0n to 2n ** 64n - 1n");
}

// cudaStatus(): { available, reason, driverVersion, gpus: [{ name, totalBytes, freeBytes, computeCapability }] }
Napi::Value cuda_status(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  cuda::Status status = cuda::status();
  Napi::Object result = Napi::Object::New(env);
  result.Set("available", Napi::Boolean::New(env, status.available));
  result.Set("reason", Napi::String::New(env, status.reason));
  result.Set("driverVersion", Napi::Number::New(env, status.driver_version));
  Napi::Array gpus = Napi::Array::New(env);
  for (const cuda::Gpu& gpu : status.gpus) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", Napi::String::New(env, gpu.name));
    entry.Set("totalBytes", number(env, gpu.total_bytes));
    entry.Set("freeBytes", number(env, gpu.free_bytes));
    entry.Set("computeCapability", Napi::Number::New(env, gpu.compute_capability));
    gpus.Set(gpus.Length(), entry);
  }
  result.Set("gpus", gpus);
  return result;
}

// cudaDriverCalls()
Napi::Value cuda_driver_calls(const Napi::CallbackInfo& info) { return number(info.Env(), cuda::driver_calls.load()); }

// openCuda(index, memoryLimitBytes: 0 for what the GPU has)
Napi::Value open_cuda(const Napi::CallbackInfo& info) {
  const uint32_t index = to_uint32(info[0], "index");
  return make_handle(info.Env(),
                     new cuda::CudaDevice(static_cast<int32_t>(index), to_size(info[1], "memoryLimitBytes")));
}

// capabilities(device): { unifiedMemory, confidentialComputing, virtualMemory } of a GPU
Napi::Value capabilities(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const cuda::CudaDevice& device = cuda_of(info[0], "capabilities");
  Napi::Object result = Napi::Object::New(env);
  result.Set("unifiedMemory", Napi::Boolean::New(env, device.unified()));
  result.Set("confidentialComputing", Napi::Boolean::New(env, cuda::confidential_computing()));
  result.Set("virtualMemory", Napi::Boolean::New(env, device.virtual_memory_granularity() > 0));
  return result;
}

// confidentialComputingBy(library): for tests
Napi::Value confidential_computing_by(const Napi::CallbackInfo& info) {
  const bool confidential = cuda::confidential_computing_by(info[0].As<Napi::String>());
  return Napi::Boolean::New(info.Env(), confidential);
}

// streamWrap(device, pointer): a CUstream of somebody else's
Napi::Value stream_wrap(const Napi::CallbackInfo& info) {
  cuda::CudaDevice& device = cuda_of(info[0], "stream_wrap");
  device.enter("stream_wrap");
  // NOLINTNEXTLINE(performance-no-int-to-ptr): handles of other libraries come as numbers
  auto* stream = reinterpret_cast<cuda::StreamHandle>(to_address(info[1], "pointer"));
  return make_handle(info.Env(), new cuda::CudaStream(device, stream));
}

// bufferWrap(device, pointer, bytes): device memory of somebody else's
Napi::Value buffer_wrap(const Napi::CallbackInfo& info) {
  cuda::CudaDevice& device = cuda_of(info[0], "buffer_wrap");
  device.enter("buffer_wrap");
  const uint64_t pointer = to_address(info[1], "pointer");
  return make_handle(info.Env(), new cuda::BorrowedMemory(device, pointer, to_size(info[2], "bytes")));
}

// kernelLoad(device, image, name): a promise, since PTX is compiled
Napi::Value kernel_load(const Napi::CallbackInfo& info) {
  Ref<cuda::CudaDevice> device(&cuda_of(info[0], "kernel_load"));
  if (!info[1].IsTypedArray() || !info[2].IsString()) {
    throw_invalid(info.Env(), "an image is a Uint8Array, and a kernel's name is a string");
  }
  auto bytes = info[1].As<Napi::Uint8Array>();
  std::string image(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
  std::string name = info[2].As<Napi::String>();
  return make_on_thread(info.Env(), "kernel_load",
                        [device = std::move(device), image = std::move(image), name = std::move(name)]() -> Object* {
                          return new cuda::CudaKernel(*device, image, name);
                        });
}

// kernelLaunch(stream, kernel, [gridX, gridY, gridZ, blockX, blockY, blockZ, sharedBytes], arguments,
//              [buffer, offset, bytes, mode, …])
Napi::Value kernel_launch(const Napi::CallbackInfo& info) {
  auto& stream = object_of<Stream>(info[0], SPILLWAY_KIND_STREAM);
  auto& kernel = object_of<cuda::CudaKernel>(info[1], SPILLWAY_KIND_KERNEL);
  same_device(stream, kernel, "launch");
  auto shape = info[2].As<Napi::Array>();
  auto arguments = info[3].As<Napi::Uint8Array>();
  auto flat = info[4].As<Napi::Array>();
  if (arguments.ByteLength() > 4096) throw_invalid(info.Env(), "a kernel's arguments are at most 4096 bytes");
  std::vector<spillway_access> accesses;
  for (uint32_t i = 0; i + 3 < flat.Length(); i += 4) {
    Buffer& buffer = buffer_of(flat.Get(i));
    same_device(stream, buffer, "launch");
    accesses.push_back({reinterpret_cast<spillway_buffer*>(static_cast<Object*>(&buffer)),
                        to_size(flat.Get(i + 1), "offset"), to_size(flat.Get(i + 2), "bytes"),
                        to_uint32(flat.Get(i + 3), "mode"), 0});
  }
  spillway_launch launch{};
  launch.struct_size = sizeof launch;
  launch.access_count = static_cast<uint32_t>(accesses.size());
  launch.arguments = arguments.Data();
  launch.argument_bytes = static_cast<uint32_t>(arguments.ByteLength());
  for (uint32_t i = 0; i < 3; ++i) {
    launch.grid[i] = to_uint32(shape.Get(i), "grid");
    launch.block[i] = to_uint32(shape.Get(i + 3), "block");
  }
  launch.shared_bytes = to_uint32(shape.Get(6u), "sharedBytes");
  launch.accesses = accesses.data();
  static_cast<cuda::CudaStream&>(stream).launch(kernel, launch);
  return info.Env().Undefined();
}

}  // namespace

void export_cuda(Napi::Env env, Napi::Object exports) {
  export_function<cuda_status>(env, exports, "cudaStatus");
  export_function<cuda_driver_calls>(env, exports, "cudaDriverCalls");
  export_function<open_cuda>(env, exports, "openCuda");
  export_function<capabilities>(env, exports, "capabilities");
  export_function<confidential_computing_by>(env, exports, "confidentialComputingBy");
  export_function<stream_wrap>(env, exports, "streamWrap");
  export_function<buffer_wrap>(env, exports, "bufferWrap");
  export_function<kernel_load>(env, exports, "kernelLoad");
  export_function<kernel_launch>(env, exports, "kernelLaunch");
}

}  // namespace spillway::device::binding
