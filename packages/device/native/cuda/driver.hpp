// The NVIDIA driver, opened when somebody first asks for it. Its types and functions are declared here, as its binary
// interface fixes them, so that the addon builds where no CUDA toolkit is.
#pragma once

#include <spillway/abi.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace spillway::device::cuda {

using Result = int32_t;  // CUresult
using DeviceNumber = int32_t;
using Address = uint64_t;  // CUdeviceptr
using Context = struct CUctx_st*;
using StreamHandle = struct CUstream_st*;
using EventHandle = struct CUevent_st*;
using ModuleHandle = struct CUmod_st*;
using FunctionHandle = struct CUfunc_st*;
using GraphHandle = struct CUgraph_st*;
using GraphNode = struct CUgraphNode_st*;
using GraphExecutable = struct CUgraphExec_st*;
using MemoryHandle = uint64_t;

inline constexpr Result kSuccess = 0;
inline constexpr Result kInvalidValue = 1;
inline constexpr Result kOutOfMemory = 2;
inline constexpr Result kInvalidHandle = 400;
inline constexpr Result kNotReady = 600;
inline constexpr Result kOperatingSystem = 304;
inline constexpr Result kOutOfResources = 701;

struct MemoryLocation {
  int32_t type = 1;  // a device
  int32_t id = 0;
};
struct MemoryProperties {
  int32_t type = 1;  // pinned
  int32_t handle_types = 0;
  MemoryLocation location;
  void* windows_metadata = nullptr;
  uint8_t compression = 0;
  uint8_t rdma = 0;
  uint16_t usage = 0;
  uint8_t reserved[4] = {};
};
static_assert(sizeof(MemoryProperties) == 32);
struct MemoryAccess {
  MemoryLocation location;
  int32_t flags = 3;  // read and write
};
static_assert(sizeof(MemoryAccess) == 12);

struct CopyAttributes {
  int32_t source_access_order = 1;  // as the stream does
  MemoryLocation source_hint = {0, 0};
  MemoryLocation target_hint = {0, 0};
  uint32_t flags = 0;
};
static_assert(sizeof(CopyAttributes) == 24);

struct LaunchAttribute {
  int32_t id = 0;
  int32_t padding = 0;
  int32_t value = 0;
  uint8_t rest[60] = {};
};
static_assert(sizeof(LaunchAttribute) == 72);
struct LaunchConfiguration {
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t shared_bytes;
  StreamHandle stream;
  LaunchAttribute* attributes;
  uint32_t attribute_count;
};
static_assert(sizeof(LaunchConfiguration) == 56);

// X(name, the CUDA version whose interface is meant, parameters…)
#define SPILLWAY_CUDA_REQUIRED(X)                                                        \
  X(cuDriverGetVersion, 2020, int32_t*)                                                  \
  X(cuGetErrorName, 6000, Result, const char**)                                          \
  X(cuGetErrorString, 6000, Result, const char**)                                        \
  X(cuDeviceGetCount, 2000, int32_t*)                                                    \
  X(cuDeviceGet, 2000, DeviceNumber*, int32_t)                                           \
  X(cuDeviceGetName, 2000, char*, int32_t, DeviceNumber)                                 \
  X(cuDeviceGetAttribute, 2000, int32_t*, int32_t, DeviceNumber)                         \
  X(cuDeviceGetPCIBusId, 4010, char*, int32_t, DeviceNumber)                             \
  X(cuDeviceTotalMem, 3020, size_t*, DeviceNumber)                                       \
  X(cuDevicePrimaryCtxRetain, 7000, Context*, DeviceNumber)                              \
  X(cuDevicePrimaryCtxRelease, 11000, DeviceNumber)                                      \
  X(cuCtxSetCurrent, 4000, Context)                                                      \
  X(cuCtxGetStreamPriorityRange, 5050, int32_t*, int32_t*)                               \
  X(cuMemGetInfo, 3020, size_t*, size_t*)                                                \
  X(cuMemAlloc, 3020, Address*, size_t)                                                  \
  X(cuMemFree, 3020, Address)                                                            \
  X(cuMemGetAddressRange, 3020, Address*, size_t*, Address)                              \
  X(cuPointerGetAttribute, 4000, void*, int32_t, Address)                                \
  X(cuMemHostAlloc, 2020, void**, size_t, uint32_t)                                      \
  X(cuMemFreeHost, 2000, void*)                                                          \
  X(cuMemHostRegister, 6050, void*, size_t, uint32_t)                                    \
  X(cuMemHostUnregister, 4000, void*)                                                    \
  X(cuMemcpyAsync, 4000, Address, Address, size_t, StreamHandle)                         \
  X(cuMemsetD8Async, 3020, Address, uint8_t, size_t, StreamHandle)                       \
  X(cuStreamCreateWithPriority, 5050, StreamHandle*, uint32_t, int32_t)                  \
  X(cuStreamGetCtx, 9020, StreamHandle, Context*)                                        \
  X(cuStreamDestroy, 4000, StreamHandle)                                                 \
  X(cuStreamSynchronize, 2000, StreamHandle)                                             \
  X(cuStreamQuery, 2000, StreamHandle)                                                   \
  X(cuStreamWaitEvent, 3020, StreamHandle, EventHandle, uint32_t)                        \
  X(cuStreamBeginCapture, 10010, StreamHandle, int32_t)                                  \
  X(cuStreamEndCapture, 10000, StreamHandle, GraphHandle*)                               \
  X(cuStreamGetCaptureInfo, 10010, StreamHandle, int32_t*, uint64_t*)                    \
  X(cuThreadExchangeStreamCaptureMode, 10010, int32_t*)                                  \
  X(cuEventCreate, 2000, EventHandle*, uint32_t)                                         \
  X(cuEventRecord, 2000, EventHandle, StreamHandle)                                      \
  X(cuEventRecordWithFlags, 11010, EventHandle, StreamHandle, uint32_t)                  \
  X(cuEventQuery, 2000, EventHandle)                                                     \
  X(cuEventElapsedTime, 2000, float*, EventHandle, EventHandle)                          \
  X(cuEventDestroy, 4000, EventHandle)                                                   \
  X(cuModuleLoadData, 2000, ModuleHandle*, const void*)                                  \
  X(cuModuleUnload, 2000, ModuleHandle)                                                  \
  X(cuModuleGetFunction, 2000, FunctionHandle*, ModuleHandle, const char*)               \
  X(cuFuncSetAttribute, 9000, FunctionHandle, int32_t, int32_t)                          \
  X(cuLaunchKernelEx, 11060, const LaunchConfiguration*, FunctionHandle, void**, void**) \
  X(cuGraphInstantiateWithFlags, 11040, GraphExecutable*, GraphHandle, uint64_t)         \
  X(cuGraphGetNodes, 10000, GraphHandle, GraphNode*, size_t*)                            \
  X(cuGraphLaunch, 10000, GraphExecutable, StreamHandle)                                 \
  X(cuGraphExecDestroy, 10000, GraphExecutable)                                          \
  X(cuGraphDestroy, 10000, GraphHandle)

// Absent: the device has no virtual memory, or copies one by one.
#define SPILLWAY_CUDA_OPTIONAL(X)                                                                              \
  X(cuMemAddressReserve, 10020, Address*, size_t, size_t, Address, uint64_t)                                   \
  X(cuMemAddressFree, 10020, Address, size_t)                                                                  \
  X(cuMemCreate, 10020, MemoryHandle*, size_t, const MemoryProperties*, uint64_t)                              \
  X(cuMemRelease, 10020, MemoryHandle)                                                                         \
  X(cuMemMap, 10020, Address, size_t, size_t, MemoryHandle, uint64_t)                                          \
  X(cuMemUnmap, 10020, Address, size_t)                                                                        \
  X(cuMemSetAccess, 10020, Address, size_t, const MemoryAccess*, size_t)                                       \
  X(cuMemGetAllocationGranularity, 10020, size_t*, const MemoryProperties*, int32_t)                           \
  X(cuMemcpyBatchAsync, 12080, Address*, Address*, size_t*, size_t, CopyAttributes*, size_t*, size_t, size_t*, \
    StreamHandle)

/// Calls of the driver by this process, for measurements: what an enqueued operation costs is mostly these.
inline std::atomic<uint64_t> driver_calls{0};

/// One function of the driver; null: it has none of that name.
template <typename... Arguments>
struct DriverFunction {
  Result (*pointer)(Arguments...) = nullptr;
  Result operator()(Arguments... arguments) const {
    driver_calls.fetch_add(1, std::memory_order_relaxed);
    return pointer(arguments...);
  }
  explicit operator bool() const { return pointer != nullptr; }
};

/// The functions, by the driver's own names. One for the process: the driver is.
struct Driver {
#define SPILLWAY_CUDA_POINTER(name, version, ...) DriverFunction<__VA_ARGS__> name;
  SPILLWAY_CUDA_REQUIRED(SPILLWAY_CUDA_POINTER)
  SPILLWAY_CUDA_OPTIONAL(SPILLWAY_CUDA_POINTER)
#undef SPILLWAY_CUDA_POINTER

  /// Empty when the driver can be used; else why not, for a person.
  std::string unavailable;
  bool virtual_memory = false;
  int32_t version = 0;  // 13000: CUDA 13.0
};

/// Loads it on the first call, never before. Any thread.
const Driver& driver();

/// Throws StatusError for anything but success. call: the driver's function.
void check(Result result, const char* call);

#define SPILLWAY_CUDA(function, ...) \
  ::spillway::device::cuda::check(::spillway::device::cuda::driver().function(__VA_ARGS__), #function)

/// While it lives, this thread may ask and allocate although it captures a stream: the driver holds such calls unsafe,
/// because who does not know of the capture might want them in it.
class RelaxedCapture {
 public:
  RelaxedCapture() { driver().cuThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;
  ~RelaxedCapture() { driver().cuThreadExchangeStreamCaptureMode(&mode_); }

 private:
  int32_t mode_ = 2;  // CU_STREAM_CAPTURE_MODE_RELAXED; then what it was
};

/// An error after which the context is of no more use.
bool is_sticky(Result result);
/// What the ABI calls it.
spillway_status status_of(Result result);

}  // namespace spillway::device::cuda
