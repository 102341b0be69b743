// What passes for NVML: as much as the device asks of it, answering as the test's -D say. As strict as NVML is about
// calls before it was initialized and about the versions of structs; stricter about who initializes it and stays.
#include <cstdint>

namespace {

constexpr int32_t kUninitialized = 1;
constexpr int32_t kAlreadyInitialized = 5;
constexpr int32_t kVersionMismatch = 25;

struct Settings {
  uint32_t version, environment, feature, developer_tools, multi_gpu_mode;
};
struct State {
  uint32_t environment, feature, developer_tools;
};

// One that could not be initialized answers all the same: nobody may ask it.
bool initialized = INITIALIZE_RESULT != 0;

}  // namespace

extern "C" {

int32_t nvmlInit_v2() {
  if (INITIALIZE_RESULT != 0) return INITIALIZE_RESULT;
  if (initialized) return kAlreadyInitialized;
  initialized = true;
  return 0;
}

int32_t nvmlShutdown() {
  initialized = false;
  return 0;
}

#ifdef SETTINGS_RESULT
int32_t nvmlSystemGetConfComputeSettings(Settings* settings) {
  if (!initialized) return kUninitialized;
  if (settings->version != (20U | 1U << 24)) return kVersionMismatch;
  *settings = {settings->version, 2, FEATURE, 0, MULTI_GPU_MODE};
  return SETTINGS_RESULT;
}
#endif

#ifdef STATE_RESULT
int32_t nvmlSystemGetConfComputeState(State* state) {
  if (!initialized) return kUninitialized;
  *state = {2, FEATURE, 0};
  return STATE_RESULT;
}
#endif
}
