/* The C ABI between @spillway/device and every other addon. See native/ABI.md for the rules.
 *
 * How it travels: the device addon's attach() returns a Node-API External, tagged SPILLWAY_API_TAG_*, that points to
 * one const spillway_api. A consumer checks the tag, then abi_major and abi_minor, then that struct_size covers the
 * last slot it needs, and keeps the pointer in its instance data. Handles travel as Externals tagged
 * SPILLWAY_BOX_TAG_* that point to a spillway_box.
 *
 * Plain C99: fixed-width integers, no enums in structs, no bitfields, no long. No C++ type, exception or allocated
 * memory crosses. Unless a line says otherwise, a function may be called on any thread and never blocks on the device.
 */
#ifndef SPILLWAY_ABI_H
#define SPILLWAY_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Before 1.0 both must match; from 1.0 on minors only append. */
#define SPILLWAY_ABI_MAJOR 0u
#define SPILLWAY_ABI_MINOR 3u

#define SPILLWAY_API_TAG_LOWER 0x8c5b1f3e90a7d264ull
#define SPILLWAY_API_TAG_UPPER 0x41d0e6b27f9c358aull
#define SPILLWAY_BOX_TAG_LOWER 0x2f64c9a81be0573dull
#define SPILLWAY_BOX_TAG_UPPER 0xb7e3805d14fa69c2ull

/* ---- status and errors ---------------------------------------------------------------------------------------- */

typedef uint32_t spillway_status;
#define SPILLWAY_STATUS_OK 0u
#define SPILLWAY_STATUS_INVALID_ARGUMENT 1u
#define SPILLWAY_STATUS_OUT_OF_MEMORY 2u
#define SPILLWAY_STATUS_NOT_SUPPORTED 3u
#define SPILLWAY_STATUS_WRONG_DEVICE 4u /* handles of two devices in one call */
#define SPILLWAY_STATUS_CAPTURE 5u      /* not legal while a stream is being captured, or the capture is broken */
#define SPILLWAY_STATUS_DEVICE_LOST 6u
#define SPILLWAY_STATUS_SYSTEM 7u     /* a system call failed; native_code is errno */
#define SPILLWAY_STATUS_NO_KERNELS 8u /* the kernel has no image for this device, or no host twin */
#define SPILLWAY_STATUS_INTERNAL 9u
#define SPILLWAY_STATUS_CLOSED 10u /* the device was closed */

/* Owned by the caller, who sets struct_size. Filled only when a call returns a status other than OK. */
typedef struct spillway_error {
  uint32_t struct_size;
  spillway_status status;
  int64_t native_code; /* errno or CUresult; 0 when there is none */
  /* OUT_OF_MEMORY only. */
  uint64_t requested_bytes;
  uint64_t free_bytes;
  uint64_t total_bytes;
  char call[32];
  char message[512];
} spillway_error;

/* ---- handles -------------------------------------------------------------------------------------------------- */

/* Every handle is a spillway_object: it may be cast to one. A create function returns one reference. */
typedef struct spillway_object spillway_object;
typedef struct spillway_device spillway_device;
typedef struct spillway_stream spillway_stream; /* keeps its device */
typedef struct spillway_event spillway_event;   /* keeps its device */
typedef struct spillway_buffer spillway_buffer; /* keeps its device; enqueued work keeps the buffers it uses */
typedef struct spillway_graph spillway_graph;   /* keeps its device and the buffers of its nodes */

#define SPILLWAY_KIND_DEVICE 1u
#define SPILLWAY_KIND_STREAM 2u
#define SPILLWAY_KIND_EVENT 3u
#define SPILLWAY_KIND_DEVICE_BUFFER 4u
#define SPILLWAY_KIND_HOST_BUFFER 5u
#define SPILLWAY_KIND_GRAPH 6u
#define SPILLWAY_KIND_ADDRESS_RANGE 7u
#define SPILLWAY_KIND_PHYSICAL_MEMORY 8u
#define SPILLWAY_KIND_KERNEL 9u /* of an image that a program brought itself */
#define SPILLWAY_KIND_TIMESTAMP 10u
#define SPILLWAY_KIND_COUNT 11u

/* What a JavaScript handle's External points to. Made and freed by the device addon; only the thread of its
 * environment touches it. object is NULL after dispose. A borrower that keeps the object past the call retains it. */
typedef struct spillway_box {
  uint32_t struct_size;
  uint32_t kind;
  spillway_object* object;
} spillway_box;

/* ---- memory --------------------------------------------------------------------------------------------------- */

#define SPILLWAY_STORAGE_DEVICE 1u
#define SPILLWAY_STORAGE_MAPPED 2u
#define SPILLWAY_STORAGE_PINNED 3u
#define SPILLWAY_STORAGE_PAGEABLE 4u

typedef struct spillway_allocation {
  uint32_t struct_size;
  uint32_t storage;
  uint64_t bytes;  /* > 0 */
  const char* tag; /* device storage only; UTF-8, at most 63 bytes; copied */
  /* (optional) Device storage: whose work uses it first. It may get what that stream's earlier work still uses, so
   * other streams must wait for this point; without a stream nobody must. Refused while the stream is being captured.
   */
  spillway_stream* stream;
} spillway_allocation;

typedef struct spillway_buffer_info {
  uint32_t struct_size;
  uint32_t storage;
  uint64_t bytes;
  uint64_t device_address; /* what kernels and host twins read; 0 when the device cannot reach the memory */
  void* host_address;      /* NULL for device storage */
} spillway_buffer_info;

typedef struct spillway_copy {
  uint32_t struct_size;
  uint32_t reserved;
  spillway_buffer* to;
  uint64_t to_offset;
  spillway_buffer* from;
  uint64_t from_offset;
  uint64_t bytes;
} spillway_copy;

typedef struct spillway_budget {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t limit_bytes;
  uint64_t used_bytes;
  uint64_t peak_bytes;
  uint64_t available_bytes; /* now: what the limit leaves, and no more than others leave free */
} spillway_budget;

/* ---- kernels -------------------------------------------------------------------------------------------------- */

/* What a host twin is given besides its arguments. Lives for the call. */
typedef struct spillway_twin_context spillway_twin_context;
struct spillway_twin_context {
  uint32_t struct_size;
  uint32_t threads; /* how many may run bodies at once, the caller included */
  uint32_t grid[3];
  uint32_t block[3];
  /* Runs body over [0, count) in pieces of about `grain`, on the device's threads and the caller's; returns when all
   * are done. Bodies may not call parallel_for. Callable only inside the twin, on its thread. */
  void (*parallel_for)(const spillway_twin_context* context, uint64_t count, uint64_t grain,
                       void (*body)(void* state, uint64_t begin, uint64_t end), void* state);
  void* internal;
};

/* Computes on the CPU what the device image computes, over the same argument struct. Must not fail, throw or call the
 * ABI. Runs on a thread of the device. */
typedef void (*spillway_host_twin)(const spillway_twin_context* context, const void* arguments);

/* The device image may start before the kernel ahead of it on its stream has ended: it waits by itself
 * (griddepcontrol.wait) before it reads or writes anything. */
#define SPILLWAY_KERNEL_STARTS_EARLY 1u

/* A kernel is described once; the device decides which part runs. Static lifetime. */
typedef struct spillway_kernel {
  uint32_t struct_size;
  uint32_t flags;
  const char* name;  /* the entry point in the image, and what errors and traces say */
  const void* image; /* (optional) a fatbin or cubin */
  uint64_t image_bytes;
  spillway_host_twin host_twin; /* (optional) */
} spillway_kernel;

#define SPILLWAY_ACCESS_READ 1u
#define SPILLWAY_ACCESS_WRITE 2u

/* One range a launch touches. mode: READ, WRITE or both. */
typedef struct spillway_access {
  spillway_buffer* buffer;
  uint64_t offset;
  uint64_t bytes;
  uint32_t mode;
  uint32_t reserved;
} spillway_access;

typedef struct spillway_launch {
  uint32_t struct_size;
  uint32_t access_count;
  const spillway_kernel* kernel;
  const void* arguments; /* one struct, passed by value: copied at enqueue */
  uint32_t argument_bytes;
  uint32_t shared_bytes;
  uint32_t grid[3];
  uint32_t block[3];
  const spillway_access* accesses; /* every byte the kernel reads or writes; copied at enqueue */
} spillway_launch;

/* Called exactly once, on a thread of the device. May not block nor call functions that enqueue. */
typedef void (*spillway_notification)(void* state, spillway_status status);

#define SPILLWAY_PRIORITY_LOW 0u
#define SPILLWAY_PRIORITY_NORMAL 1u
#define SPILLWAY_PRIORITY_HIGH 2u

#define SPILLWAY_WAIT_EXTERNAL 1u

/* ---- the table ------------------------------------------------------------------------------------------------ */

typedef struct spillway_api {
  uint32_t struct_size; /* bytes filled by the provider */
  uint16_t abi_major;
  uint16_t abi_minor;

  /* Any handle. release never fails. */
  void (*retain)(spillway_object* object);
  void (*release)(spillway_object* object);
  uint32_t (*kind)(const spillway_object* object);
  /* Borrowed; lives as long as the object. */
  spillway_device* (*device_of)(spillway_object* object);

  spillway_status (*budget)(spillway_device* device, spillway_budget* out, spillway_error* error);

  spillway_status (*stream_create)(spillway_device* device, uint32_t priority, spillway_stream** out,
                                   spillway_error* error);
  /* Blocks the calling thread until everything enqueued is done. Never on a JavaScript thread: notify instead. */
  spillway_status (*stream_synchronize)(spillway_stream* stream, spillway_error* error);
  /* Calls back when everything enqueued so far is done, or the device is lost or closed. */
  spillway_status (*stream_notify)(spillway_stream* stream, spillway_notification notification, void* state,
                                   spillway_error* error);
  /* 1 while the stream is part of a capture. */
  uint32_t (*stream_capturing)(spillway_stream* stream);

  spillway_status (*event_create)(spillway_device* device, spillway_event** out, spillway_error* error);
  spillway_status (*event_record)(spillway_event* event, spillway_stream* stream, spillway_error* error);
  /* The stream waits for the record of the event made last before this call; none was made: no wait.
   * Inside a capture the event must have been recorded in it, or flags hold SPILLWAY_WAIT_EXTERNAL. */
  spillway_status (*event_wait)(spillway_event* event, spillway_stream* stream, uint32_t flags, spillway_error* error);

  /* Allocation may take as long as the system takes to give memory; it waits for the device's work only where it would
   * fail otherwise. */
  spillway_status (*buffer_create)(spillway_device* device, const spillway_allocation* allocation,
                                   spillway_buffer** out, spillway_error* error);
  spillway_status (*buffer_info)(spillway_buffer* buffer, spillway_buffer_info* out, spillway_error* error);

  /* All of them or, when one is refused, none; ordered among each other only by what follows on the stream. */
  spillway_status (*copy)(spillway_stream* stream, const spillway_copy* copies, uint32_t count, spillway_error* error);
  spillway_status (*fill)(spillway_stream* stream, spillway_buffer* to, uint64_t offset, uint64_t bytes, uint8_t value,
                          spillway_error* error);
  spillway_status (*launch)(spillway_stream* stream, const spillway_launch* launch, spillway_error* error);

  /* (optional features) The table named so, of at least min_struct_size bytes, or NULL. Static lifetime. */
  const void* (*extension)(spillway_device* device, const char* name, uint32_t min_struct_size);
} spillway_api;

/* ---- extension "graph" ---------------------------------------------------------------------------------------- */

#define SPILLWAY_EXTENSION_GRAPH "graph"

typedef struct spillway_graph_api {
  uint32_t struct_size;
  uint32_t reserved;
  /* From here on the stream's work is recorded, and that of every stream that waits for an event recorded in it. */
  spillway_status (*begin_capture)(spillway_stream* stream, spillway_error* error);
  /* Fails, and drops what was recorded, when a joined stream was not joined back (its last work is not waited for). */
  spillway_status (*end_capture)(spillway_stream* stream, spillway_graph** out, spillway_error* error);
  /* Replays without re-running the caller. Replays of one graph run one after another. */
  spillway_status (*launch)(spillway_graph* graph, spillway_stream* stream, spillway_error* error);
  uint32_t (*node_count)(spillway_graph* graph);
  /* How many launches were enqueued so far of graphs that hold work of this stream. Whoever keeps account of what that
   * work changes sees by it that a graph has changed it too. */
  uint64_t (*replays)(spillway_stream* stream);
} spillway_graph_api;

/* ---- extension "virtual_memory" ------------------------------------------------------------------------------- */

#define SPILLWAY_EXTENSION_VIRTUAL_MEMORY "virtual_memory"

typedef struct spillway_address_range spillway_address_range;     /* reserved addresses: free of charge */
typedef struct spillway_physical_memory spillway_physical_memory; /* bytes, charged to the budget */

/* Each step has one undo: reserve/release, create/release, map/unmap. A physical handle maps only whole; it may be
 * unmapped and mapped again, contents kept. Releasing the last reference of an unmapped handle gives the memory back
 * to the system. The caller makes sure no enqueued work uses what it unmaps. */
typedef struct spillway_virtual_memory_api {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t (*granularity)(spillway_device* device);
  /* bytes: a multiple of the granularity. */
  spillway_status (*reserve)(spillway_device* device, uint64_t bytes, spillway_address_range** out,
                             spillway_error* error);
  spillway_status (*create)(spillway_device* device, uint64_t bytes, const char* tag, spillway_physical_memory** out,
                            spillway_error* error);
  spillway_status (*map)(spillway_address_range* range, uint64_t offset, spillway_physical_memory* memory,
                         spillway_error* error);
  spillway_status (*unmap)(spillway_address_range* range, uint64_t offset, uint64_t bytes, spillway_error* error);
  /* A buffer over part of the range, at a fixed address whatever is mapped there; keeps the range. */
  spillway_status (*buffer)(spillway_address_range* range, uint64_t offset, uint64_t bytes, spillway_buffer** out,
                            spillway_error* error);
} spillway_virtual_memory_api;

/* ---- extension "timing" --------------------------------------------------------------------------------------- */

#define SPILLWAY_EXTENSION_TIMING "timing"

typedef struct spillway_timestamp spillway_timestamp; /* keeps its device; enqueued work and graphs keep it */

/* When streams reach points, by the device's clock. Nothing can wait for a timestamp, so it orders nothing. */
typedef struct spillway_timing_api {
  uint32_t struct_size;
  uint32_t reserved;
  spillway_status (*create)(spillway_device* device, spillway_timestamp** out, spillway_error* error);
  /* Takes the time when everything enqueued on the stream so far is done: once, or in a capture at every replay. */
  spillway_status (*record)(spillway_timestamp* timestamp, spillway_stream* stream, spillway_error* error);
  /* Milliseconds between the times taken last, negative when `to` was reached first. NaN while one of the two was
   * never reached, or was recorded or replayed again and is not reached yet: ask later. */
  spillway_status (*elapsed)(spillway_timestamp* from, spillway_timestamp* to, double* out_ms, spillway_error* error);
} spillway_timing_api;

/* ---- extension "cuda" ------------------------------------------------------------------------------------------ */

/* NULL for a device that is no NVIDIA GPU. */
#define SPILLWAY_EXTENSION_CUDA "cuda"

typedef struct spillway_cuda_info {
  uint32_t struct_size;
  int32_t device;              /* the driver's CUdevice */
  uint32_t compute_capability; /* 90 is 9.0 */
  uint32_t multiprocessors;
} spillway_cuda_info;

/* Enqueues to stream, a CUstream. Called on the thread of the caller, with the device's context current. */
typedef spillway_status (*spillway_cuda_work)(void* state, void* stream);

typedef struct spillway_cuda_api {
  uint32_t struct_size;
  uint32_t reserved;
  spillway_status (*info)(spillway_device* device, spillway_cuda_info* out, spillway_error* error);
  /* For work that another library enqueues, such as a matrix product. The accesses are as those of a launch. What work
   * returns comes out of the call. */
  spillway_status (*enqueue)(spillway_stream* stream, const spillway_access* accesses, uint32_t access_count,
                             spillway_cuda_work work, void* state, spillway_error* error);
} spillway_cuda_api;

#ifdef __cplusplus
}
#define SPILLWAY_ASSERT_SIZE(type, size) static_assert(sizeof(type) == (size), #type " changed its size")
#else
#define SPILLWAY_ASSERT_SIZE(type, size) typedef char type##_size_is_as_agreed[sizeof(type) == (size) ? 1 : -1]
#endif

/* A changed size is an ABI change: say so in ABI-CHANGELOG.md. 64-bit platforms only. */
SPILLWAY_ASSERT_SIZE(spillway_error, 584);
SPILLWAY_ASSERT_SIZE(spillway_box, 16);
SPILLWAY_ASSERT_SIZE(spillway_allocation, 32);
SPILLWAY_ASSERT_SIZE(spillway_buffer_info, 32);
SPILLWAY_ASSERT_SIZE(spillway_copy, 48);
SPILLWAY_ASSERT_SIZE(spillway_budget, 40);
SPILLWAY_ASSERT_SIZE(spillway_twin_context, 48);
SPILLWAY_ASSERT_SIZE(spillway_kernel, 40);
SPILLWAY_ASSERT_SIZE(spillway_access, 32);
SPILLWAY_ASSERT_SIZE(spillway_launch, 64);
SPILLWAY_ASSERT_SIZE(spillway_api, 152);
SPILLWAY_ASSERT_SIZE(spillway_graph_api, 48);
SPILLWAY_ASSERT_SIZE(spillway_virtual_memory_api, 56);
SPILLWAY_ASSERT_SIZE(spillway_timing_api, 32);
SPILLWAY_ASSERT_SIZE(spillway_cuda_info, 16);
SPILLWAY_ASSERT_SIZE(spillway_cuda_api, 24);

#endif
