// What only the host device can do: adversarial order, checking, failures on demand.
#include <array>

#include "../host/host_device.hpp"
#include "instance.hpp"

namespace spillway::device::binding {
namespace {

/// Asks the environment's hook, on its thread.
class JavaScriptSiteProbe final : public host::SiteProbe {
 public:
  explicit JavaScriptSiteProbe(std::shared_ptr<SiteHook> hook) : hook_(std::move(hook)) {}
  uint64_t mark(bool pending) override {
    if (std::this_thread::get_id() != hook_->thread || hook_->note.IsEmpty()) return 0;
    const uint64_t site = ++hook_->sites;
    Napi::Env env = hook_->note.Env();
    Napi::HandleScope scope(env);
    try {
      hook_->note.Call({Napi::Number::New(env, static_cast<double>(site)), Napi::Boolean::New(env, pending)});
      return site;
    } catch (const Napi::Error&) {
      return 0;  // a report without a line is better than a program that fails for want of one
    }
  }

 private:
  std::shared_ptr<SiteHook> hook_;
};

// openHost(memoryLimitBytes, threads, linkBytesPerSecond, linkLatencySeconds, adversarialSeed | undefined, check, pins,
// unified)
Napi::Value open_host(const Napi::CallbackInfo& info) {
  host::HostDeviceOptions options{};
  options.memory_limit_bytes = to_size(info[0], "memoryLimitBytes");
  options.threads = to_uint32(info[1], "threads");
  options.link.bytes_per_second = to_float(info[2], "linkBytesPerSecond");
  options.link.latency_seconds = to_float(info[3], "linkLatencySeconds");
  if (!info[4].IsUndefined()) options.adversarial_seed = to_size(info[4], "adversarialSeed");
  if (info[5].ToBoolean()) {
    options.check = true;
    options.site_probe = std::make_unique<JavaScriptSiteProbe>(instance(info.Env()).site_hook);
  }
  options.pins = info[6].ToBoolean();
  options.unified = info[7].ToBoolean();
  return make_handle(info.Env(), new host::HostDevice(std::move(options)));
}

// onSite(note): from now on called, with a number, at everything that is enqueued to a checked device
Napi::Value on_site(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) throw_invalid(info.Env(), "note must be a function");
  instance(info.Env()).site_hook->note = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

host::HostDevice& host_of(const Napi::CallbackInfo& info) {
  auto* device = dynamic_cast<host::HostDevice*>(&object_of<Device>(info[0], SPILLWAY_KIND_DEVICE));
  if (device == nullptr) fail(SPILLWAY_STATUS_NOT_SUPPORTED, "check", "only the host device can check and inject");
  return *device;
}

constexpr std::array<const char*, host::kAnyFailurePoint> kPoints = {"allocation", "copy",   "launch",  "event",
                                                                     "mapping",    "stream", "capture", "pinning"};

// armFailure(device, at: index of a failure point or their count for any, number)
Napi::Value arm_failure(const Napi::CallbackInfo& info) {
  const uint32_t at = to_uint32(info[1], "at");
  const uint64_t number = to_size(info[2], "number");
  if (at > host::kAnyFailurePoint || number == 0) throw_invalid(info.Env(), "no such failure point");
  host_of(info).failures().arm(at, number);
  return info.Env().Undefined();
}

Napi::Value disarm_failure(const Napi::CallbackInfo& info) {
  host_of(info).failures().disarm();
  return info.Env().Undefined();
}

// failures(device): { fired, passed: { allocation, … } }
Napi::Value failures(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  host::FailureInjection& failures = host_of(info).failures();
  Napi::Object passed = Napi::Object::New(env);
  for (uint32_t point = 0; point < host::kAnyFailurePoint; ++point) {
    const uint64_t count = failures.passed(static_cast<host::FailurePoint>(point));
    passed.Set(kPoints[point], Napi::Number::New(env, static_cast<double>(count)));
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("fired", Napi::Boolean::New(env, failures.fired()));
  result.Set("passed", passed);
  return result;
}

Napi::Value to_operation(Napi::Env env, const std::shared_ptr<const host::OperationRecord>& record) {
  if (!record) return env.Undefined();
  Napi::Object result = Napi::Object::New(env);
  result.Set("what", Napi::String::New(env, record->what));
  result.Set("stream", Napi::String::New(env, record->stream));
  result.Set("site", Napi::Number::New(env, static_cast<double>(record->site)));
  result.Set("launchSite", Napi::Number::New(env, static_cast<double>(record->launch_site)));
  return result;
}

// takeViolations(device): what was found since the last call
Napi::Value take_violations(const Napi::CallbackInfo& info) {
  static constexpr const char* kKinds[] = {"read-after-write", "write-after-read", "write-after-write",
                                           "early-free",       "use-after-free",   "read-before-write",
                                           "undeclared-read",  "undeclared-write", "unjoined-fork"};
  Napi::Env env = info.Env();
  host::OrderChecker* checker = host_of(info).checker();
  Napi::Array result = Napi::Array::New(env);
  if (!checker) return result;
  for (const host::Violation& violation : checker->take()) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("kind", Napi::String::New(env, kKinds[static_cast<uint32_t>(violation.kind)]));
    entry.Set("buffer", Napi::String::New(env, violation.buffer));
    entry.Set("offset", Napi::Number::New(env, static_cast<double>(violation.offset)));
    entry.Set("bytes", Napi::Number::New(env, static_cast<double>(violation.bytes)));
    entry.Set("earlier", to_operation(env, violation.earlier));
    entry.Set("later", to_operation(env, violation.later));
    result.Set(result.Length(), entry);
  }
  return result;
}

}  // namespace

void export_check(Napi::Env env, Napi::Object exports) {
  export_function<open_host>(env, exports, "openHost");
  export_function<on_site>(env, exports, "onSite");
  export_function<arm_failure>(env, exports, "armFailure");
  export_function<disarm_failure>(env, exports, "disarmFailure");
  export_function<failures>(env, exports, "failures");
  export_function<take_violations>(env, exports, "takeViolations");
}

}  // namespace spillway::device::binding
