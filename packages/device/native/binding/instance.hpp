// State of one environment (the main thread or a worker), and how it makes handles and settles promises.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <spillway/napi.hpp>
#include <thread>

#include "../device.hpp"
#include "../failure.hpp"
#include "number.hpp"

namespace spillway::device::binding {

/// Settles promises from the device's threads. A pending promise keeps the process alive, nothing else does.
class Settler {
 public:
  explicit Settler(Napi::Env env);
  ~Settler();

  /// Made on the JavaScript thread, called from any: runs `finish` on the JavaScript thread with the deferred, unless
  /// the environment is gone by then.
  using Finish = std::function<void(Napi::Env, const Napi::Promise::Deferred&)>;
  class Ticket;
  struct Pending {
    Ticket* ticket;  // settle it exactly once, or cancel it
    Napi::Promise promise;
  };
  Pending open(Napi::Env env);
  /// For when the work that would have settled it could not be enqueued. JavaScript thread.
  void cancel(Napi::Env env, Ticket* ticket);

 private:
  friend class Ticket;
  // Node 20 deletes a thread-safe function with its environment, acquired by other threads or not. So the device's
  // threads reach it through this, which the end of the environment empties first.
  struct Channel {
    std::mutex mutex;
    napi_threadsafe_function function = nullptr;  // null once the environment ends
    void close();
  };
  static void on_javascript_thread(napi_env env, napi_value callback, void* context, void* data);
  std::shared_ptr<Channel> channel_ = std::make_shared<Channel>();
  size_t pending_ = 0;  // JavaScript thread only
};

class Settler::Ticket {
 public:
  Ticket(Settler* settler, const Napi::Promise::Deferred& deferred)
      : settler_(settler), channel_(settler->channel_), deferred_(deferred) {}
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  /// Any thread, once.
  void settle(Finish finish);

 private:
  friend class Settler;
  Settler* settler_;  // may be gone on other threads than the JavaScript thread
  std::shared_ptr<Channel> channel_;
  Napi::Promise::Deferred deferred_;
  Finish finish_;
};

/// The environment's JavaScript function that notes the call stack under a number. Shared with the devices it opened,
/// which may outlive it; emptied when the environment ends. Called on its thread only.
struct SiteHook {
  void close() noexcept {
    try {
      note.Reset();
    } catch (...) {
      // The environment is on its way out; there is nobody to tell.
    }
  }
  std::thread::id thread = std::this_thread::get_id();
  Napi::FunctionReference note;  // (site: number, pending: boolean) => void
  uint64_t sites = 0;
};

struct Instance {
  explicit Instance(Napi::Env env) : settler(env) {}
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  ~Instance() { site_hook->close(); }
  Settler settler;
  std::shared_ptr<SiteHook> site_hook = std::make_shared<SiteHook>();
};

inline Instance& instance(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

/// Takes over the caller's reference.
Napi::Value make_handle(Napi::Env env, Object* object);
/// A promise of a handle to what `make` returns, for what takes as long as the system takes. On a thread of its own:
/// libuv's few are for the program's files and names.
Napi::Value make_on_thread(Napi::Env env, const char* call, std::function<Object*()> make);

template <typename T>
T& object_of(const Napi::Value& value, uint32_t kind) {
  return *static_cast<T*>(reinterpret_cast<Object*>(unbox<spillway_object>(value, kind)));
}
inline Buffer& buffer_of(const Napi::Value& value) {
  return *static_cast<Buffer*>(reinterpret_cast<Object*>(unbox_buffer(value)));
}

void export_device(Napi::Env env, Napi::Object exports);
void export_cuda(Napi::Env env, Napi::Object exports);
void export_check(Napi::Env env, Napi::Object exports);
void export_stream(Napi::Env env, Napi::Object exports);
void export_memory(Napi::Env env, Napi::Object exports);
void export_allocator(Napi::Env env, Napi::Object exports);

/// Every field, checked in JavaScript.
AllocatorSettings settings_of(const Napi::Value& value);
void export_host_memory(Napi::Env env, Napi::Object exports);

}  // namespace spillway::device::binding
