#include <algorithm>
#include <spillway/napi.hpp>

#include "kernel_set.hpp"
#include "launch.hpp"
#include "operations.hpp"

namespace spillway::decoder {
namespace {

template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
void bind(Napi::Env env, Napi::Object to, const char* name, const KernelSet* set) {
  // Function data is never freed here: kernel sets are of static lifetime.
  to.Set(name, Napi::Function::New(env, guarded<Function>, name, const_cast<KernelSet*>(set)));
}

const KernelSet* choose_kernel_set(const Napi::Value& name) {
  const std::vector<const KernelSet*> sets = runnable_kernel_sets();
  if (name.IsUndefined()) return sets.front();
  if (!name.IsString()) throw_invalid(name.Env(), "instructionSet must be a string");
  const std::string wanted = name.As<Napi::String>().Utf8Value();
  std::string known;
  for (const KernelSet* set : sets) {
    if (wanted == set->instruction_set) return set;
    known += std::string(known.empty() ? "" : ", ") + set->instruction_set;
  }
  throw coded_error(name.Env(), "SPILLWAY_NOT_SUPPORTED",
                    "this processor, or this build, has no instruction set '" + wanted + "': leave instructionSet " +
                        "out, or choose from " + known);
}

Napi::Value describe_kernels(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto* set = static_cast<const KernelSet*>(info.Data());
  Napi::Array result = Napi::Array::New(env, kKernelCount);
  for (uint32_t i = 0; i < kKernelCount; ++i) {
    const spillway_kernel& kernel = set->kernels[i];
    Napi::Object description = Napi::Object::New(env);
    description.Set("name", Napi::String::New(env, kernel.name));
    description.Set("image", Napi::String::New(env, kernel.image_bytes > 0 ? "fatbin" : "none"));
    description.Set("hostTwin", Napi::Boolean::New(env, kernel.host_twin != nullptr));
    result.Set(i, description);
  }
  return result;
}

/// openMatrixLibrary(device, names): its number and description, or why there is none.
Napi::Value open_matrix_library(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto* instance = env.GetInstanceData<Instance>();
  auto* device = unbox<spillway_device>(info[0], SPILLWAY_KIND_DEVICE);
  if (!info[1].IsArray()) throw_invalid(env, "names must be an array of strings");
  const auto array = info[1].As<Napi::Array>();
  std::vector<std::string> names;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value name = array.Get(i);
    if (!name.IsString()) throw_invalid(env, "names must be an array of strings");
    names.push_back(name.As<Napi::String>().Utf8Value());
  }
  Napi::Object result = Napi::Object::New(env);
  const auto found = [&](size_t number) {
    result.Set("number", Napi::Number::New(env, static_cast<double>(number)));
    result.Set("description", Napi::String::New(env, instance->libraries[number]->description()));
    return result;
  };
  const int32_t gpu = MatrixLibrary::gpu_of(instance->api, device);
  for (size_t i = 0; i < instance->libraries.size(); ++i) {
    const MatrixLibrary& library = *instance->libraries[i];
    if (library.gpu() == gpu && std::find(names.begin(), names.end(), library.name()) != names.end()) return found(i);
  }
  std::string reasons;
  auto library = MatrixLibrary::open(instance->api, device, names, reasons);
  if (library == nullptr) {
    result.Set("reason", Napi::String::New(env, reasons));
    return result;
  }
  instance->libraries.push_back(std::move(library));
  return found(instance->libraries.size() - 1);
}

/// attach(table, instructionSet?): the operations, with their host twins in that instruction set.
Napi::Value attach(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const spillway_api* api = attach_api(info[0], sizeof(spillway_api), "@spillway/decoder");
  const KernelSet* set = choose_kernel_set(info[1]);
  env.GetInstanceData<Instance>()->api = api;
  Napi::Object operations = Napi::Object::New(env);
  operations.Set("instructionSet", Napi::String::New(env, set->instruction_set));
  bind<open_matrix_library>(env, operations, "openMatrixLibrary", set);
  bind<describe_kernels>(env, operations, "describe", set);
  bind<embedding>(env, operations, "embedding", set);
  bind<rms_norm>(env, operations, "rmsNorm", set);
  bind<linear>(env, operations, "linear", set);
  bind<norm_linear>(env, operations, "normLinear", set);
  bind<norm_swiglu>(env, operations, "normSwiglu", set);
  bind<qk_norm>(env, operations, "qkNorm", set);
  bind<rope_append>(env, operations, "ropeAppend", set);
  bind<attention>(env, operations, "attention", set);
  bind<silu_mul>(env, operations, "siluMul", set);
  bind<split>(env, operations, "split", set);
  return operations;
}

/// instructionSets(): the names that attach takes on this processor, best first.
Napi::Value instruction_sets(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array names = Napi::Array::New(env);
  for (const KernelSet* set : runnable_kernel_sets()) {
    names.Set(names.Length(), Napi::String::New(env, set->instruction_set));
  }
  return names;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData<Instance>(new Instance());
  export_function<attach>(env, exports, "attach");
  export_function<instruction_sets>(env, exports, "instructionSets");
  return exports;
}

}  // namespace

NODE_API_MODULE(decoder, initialise)

}  // namespace spillway::decoder
