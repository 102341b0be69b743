// Host memory takes as long as the system takes: it is made, and given back, on threads of its own; libuv's few are for
// the program's files and names.
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "../host_memory/host_memory_account.hpp"
#include "../host_memory/huge_pages.hpp"
#include "../host_memory/numa_node.hpp"
#include "instance.hpp"

namespace spillway::device::binding {
namespace {

// Giving back less takes less than starting a thread is worth.
constexpr uint64_t kReleasedHere = 16 << 20;

/// What an allocation failed with, on its way to the JavaScript thread.
struct AllocationFailure {
  bool cancelled = false;
  spillway_error error = empty_error();
  std::string limit;
  uint64_t limit_bytes = 0;

  Napi::Value to_javascript(Napi::Env env) const {
    if (cancelled) return coded_error(env, "SPILLWAY_ABORTED", "the allocation was given up").Value();
    Napi::Error result = spillway::to_javascript(env, error);
    if (!limit.empty()) {
      auto details = result.Get("details").As<Napi::Object>();
      details.Set("limit", Napi::String::New(env, limit));
      details.Set("limitBytes", number(env, limit_bytes));
    }
    return result.Value();
  }
};

/// Buffers to be made one after another, each with a promise of its own.
struct AllocationJob {
  Ref<Device> device;
  uint32_t storage;
  std::vector<uint64_t> sizes;
  std::vector<Settler::Ticket*> tickets;
  std::shared_ptr<HostAllocation> allocation;

  void run() {
    size_t next = 0;
    AllocationFailure failure;
    guard(&failure.error, [&] {
      try {
        uint64_t sum = 0;
        for (uint64_t bytes : sizes) sum += bytes;
        allocation->reserve(storage, sum);
        for (; next < sizes.size(); ++next) {
          auto buffer = Ref<Buffer>::adopt(device->create_host_buffer(storage, sizes[next], *allocation));
          // Moved: whoever is given the buffer may dispose it at once, and expects it to be gone.
          tickets[next]->settle([buffer = std::move(buffer)](Napi::Env env, const Napi::Promise::Deferred& deferred) {
            deferred.Resolve(make_handle(env, Ref<Buffer>(buffer).leave()));
          });
        }
      } catch (const AllocationCancelled&) {
        failure.cancelled = true;
      } catch (const HostMemoryRefusal& refusal) {
        failure.limit = refusal.limit();
        failure.limit_bytes = refusal.limit_bytes();
        throw;
      }
    });
    // Before anybody learns of it, so that who tries again finds the room.
    allocation->give_back();
    for (; next < sizes.size(); ++next) {
      tickets[next]->settle([failure](Napi::Env env, const Napi::Promise::Deferred& deferred) {
        deferred.Reject(failure.to_javascript(env));
      });
    }
  }
};

std::vector<uint64_t> sizes_of(const Napi::Value& value) {
  if (!value.IsArray()) throw_invalid(value.Env(), "the sizes are a list");
  auto list = value.As<Napi::Array>();
  std::vector<uint64_t> sizes;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    sizes.push_back(to_size(list.Get(i), "bytes"));
    check_buffer_bytes(sizes.back());
    check_buffer_bytes(sum += sizes.back());
  }
  return sizes;
}

// hostAllocate(device, sizes, storage): { buffers: promises of handles, in this order; cancel(); takenBytes() }
Napi::Value host_allocate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  AllocationJob job;
  job.device = Ref<Device>(&object_of<Device>(info[0], SPILLWAY_KIND_DEVICE));
  job.sizes = sizes_of(info[1]);
  job.storage = to_uint32(info[2], "storage");
  if (job.storage < SPILLWAY_STORAGE_MAPPED || job.storage > SPILLWAY_STORAGE_PAGEABLE) {
    throw_invalid(env, "storage must be mapped, pinned or pageable");
  }
  auto allocation = job.allocation = std::make_shared<HostAllocation>();
  Settler& settler = instance(env).settler;
  Napi::Array buffers = Napi::Array::New(env, job.sizes.size());
  for (uint32_t i = 0; i < job.sizes.size(); ++i) {
    Settler::Pending pending = settler.open(env);
    job.tickets.push_back(pending.ticket);
    buffers.Set(i, pending.promise);
  }
  const std::vector<Settler::Ticket*> tickets = job.tickets;
  try {
    std::thread([job = std::move(job)]() mutable { job.run(); }).detach();
  } catch (const std::system_error& failure) {
    for (Settler::Ticket* ticket : tickets) settler.cancel(env, ticket);
    fail_system("buffer_create", failure.code().value(), "the system gives no more threads");
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("buffers", buffers);
  result.Set("cancel", Napi::Function::New(env, [allocation](const Napi::CallbackInfo&) { allocation->cancel(); }));
  result.Set("takenBytes", Napi::Function::New(env, [allocation](const Napi::CallbackInfo& info) -> Napi::Value {
               return number(info.Env(), allocation->taken_bytes());
             }));
  return result;
}

// hostRelease(buffer): drops the reference now; for memory that takes long to give back, a promise of when that is
// done. Work that uses the buffer keeps it longer. Twice is harmless.
Napi::Value host_release(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  spillway_box* box = to_box(info[0]);
  if (box->kind != SPILLWAY_KIND_HOST_BUFFER) throw_invalid(env, "expected a host-buffer");
  if (box->object == nullptr) return env.Undefined();
  auto buffer = Ref<Buffer>::adopt(static_cast<Buffer*>(reinterpret_cast<Object*>(box->object)));
  box->object = nullptr;
  if (buffer->info().bytes < kReleasedHere) return env.Undefined();
  Settler& settler = instance(env).settler;
  Settler::Pending pending = settler.open(env);
  Settler::Ticket* ticket = pending.ticket;
  try {
    std::thread([ticket, buffer = std::move(buffer)]() mutable {
      buffer = Ref<Buffer>();
      ticket->settle([](Napi::Env env, const Napi::Promise::Deferred& deferred) { deferred.Resolve(env.Undefined()); });
    }).detach();
  } catch (const std::system_error&) {
    // It was released on this thread.
    settler.cancel(env, ticket);
    return env.Undefined();
  }
  return pending.promise;
}

// hostMemory(device): what bounds it, and how it is made
Napi::Value host_memory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::optional<int> node = object_of<Device>(info[0], SPILLWAY_KIND_DEVICE).numa_node();
  const HostMemoryAccount& account = HostMemoryAccount::of_process();
  Napi::Object result = Napi::Object::New(env);
  Napi::Array limits = Napi::Array::New(env);
  for (const MemoryLimit& limit : read_memory_limits(account.root())) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", Napi::String::New(env, limit.name));
    entry.Set("limitBytes", number(env, limit.limit_bytes));
    entry.Set("availableBytes", number(env, limit.available_bytes));
    entry.Set("swapBytes", number(env, limit.swap_bytes));
    limits.Set(limits.Length(), entry);
  }
  result.Set("limits", limits);
  result.Set("reservedBytes", number(env, account.reserved_bytes()));
  if (const auto bytes = read_lockable_bytes(account.root())) result.Set("lockableBytes", number(env, *bytes));
  if (node) result.Set("numaNode", Napi::Number::New(env, *node));
  if (const HugePages* pages = known_huge_pages()) {
    Napi::Object decision = Napi::Object::New(env);
    decision.Set("used", Napi::Boolean::New(env, pages->used));
    decision.Set("reason", Napi::String::New(env, pages->reason));
    result.Set("hugePages", decision);
  }
  return result;
}

// readMemoryLimitsFrom(root): for tests, of the whole process. Empty: the machine's own.
Napi::Value read_memory_limits_from(const Napi::CallbackInfo& info) {
  HostMemoryAccount::of_process().read_from(info[0].As<Napi::String>().Utf8Value());
  return info.Env().Undefined();
}

// numaNodeOf(pciAddress): [node or undefined, its processors]; for tests, read from where limits are read.
Napi::Value numa_node_of_device(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string root = HostMemoryAccount::of_process().root();
  const std::optional<int> node = numa_node_of(root, info[0].As<Napi::String>().Utf8Value());
  Napi::Array cpus = Napi::Array::New(env);
  for (int cpu : cpus_of_node(root, node)) cpus.Set(cpus.Length(), Napi::Number::New(env, cpu));
  Napi::Array result = Napi::Array::New(env);
  result.Set(0U, node ? Napi::Number::New(env, *node) : env.Undefined());
  result.Set(1U, cpus);
  return result;
}

}  // namespace

void export_host_memory(Napi::Env env, Napi::Object exports) {
  export_function<host_allocate>(env, exports, "hostAllocate");
  export_function<host_release>(env, exports, "hostRelease");
  export_function<host_memory>(env, exports, "hostMemory");
  export_function<read_memory_limits_from>(env, exports, "readMemoryLimitsFrom");
  export_function<numa_node_of_device>(env, exports, "numaNodeOf");
}

}  // namespace spillway::device::binding
