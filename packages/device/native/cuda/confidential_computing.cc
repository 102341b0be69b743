#include "confidential_computing.hpp"

#include <dlfcn.h>

#include <cstdint>

namespace spillway::device::cuda {
namespace {

using NvmlResult = int32_t;  // nvmlReturn_t
constexpr NvmlResult kNvmlSuccess = 0;

// As NVML's reference documents nvmlSystemConfComputeSettings_v1_t.
struct Settings {
  uint32_t version = sizeof(Settings) | 1U << 24;
  uint32_t environment = 0;
  uint32_t feature = 0;
  uint32_t developer_tools = 0;
  uint32_t multi_gpu_mode = 0;
};
static_assert(sizeof(Settings) == 20);

// nvmlConfComputeSystemState_t
struct State {
  uint32_t environment = 0;
  uint32_t feature = 0;
  uint32_t developer_tools = 0;
};
static_assert(sizeof(State) == 12);

template <typename Function>
Function* find(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

bool is_confidential(void* nvml) {
  if (auto* ask = find<NvmlResult(Settings*)>(nvml, "nvmlSystemGetConfComputeSettings")) {
    Settings settings;
    // Several GPUs under protected PCIe are confidential although the feature, which is about one, says off.
    if (ask(&settings) == kNvmlSuccess) return settings.feature != 0 || settings.multi_gpu_mode != 0;
  }
  // Drivers before 550 know no modes.
  if (auto* ask = find<NvmlResult(State*)>(nvml, "nvmlSystemGetConfComputeState")) {
    State state;
    if (ask(&state) == kNvmlSuccess) return state.feature != 0;
  }
  return false;
}

}  // namespace

bool confidential_computing() {
  static const bool confidential = confidential_computing_by("libnvidia-ml.so.1");
  return confidential;
}

bool confidential_computing_by(const std::string& library) {
  void* nvml = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (nvml == nullptr) return false;
  auto* initialize = find<NvmlResult()>(nvml, "nvmlInit_v2");
  auto* shut_down = find<NvmlResult()>(nvml, "nvmlShutdown");
  if (initialize == nullptr || shut_down == nullptr || initialize() != kNvmlSuccess) return false;
  const bool confidential = is_confidential(nvml);
  shut_down();
  return confidential;
}

}  // namespace spillway::device::cuda
