#include "status.hpp"

#include "driver.hpp"

namespace spillway::device::cuda {

Status status() {
  const Driver& driver = cuda::driver();
  Status status{driver.unavailable.empty(), driver.unavailable, driver.version, {}};
  if (!status.available) return status;
  int32_t count = 0;
  driver.cuDeviceGetCount(&count);
  for (int32_t index = 0; index < count; ++index) {
    DeviceNumber number = 0;
    if (driver.cuDeviceGet(&number, index) != kSuccess) continue;
    char name[128] = "";
    size_t total = 0;
    size_t free = 0;
    int32_t major = 0;
    int32_t minor = 0;
    driver.cuDeviceGetName(name, sizeof name, number);
    driver.cuDeviceTotalMem(&total, number);
    driver.cuDeviceGetAttribute(&major, 75, number);
    driver.cuDeviceGetAttribute(&minor, 76, number);
    Context context = nullptr;
    if (driver.cuDevicePrimaryCtxRetain(&context, number) == kSuccess) {
      size_t visible = 0;
      if (driver.cuCtxSetCurrent(context) == kSuccess) driver.cuMemGetInfo(&free, &visible);
      driver.cuCtxSetCurrent(nullptr);
      driver.cuDevicePrimaryCtxRelease(number);
    }
    status.gpus.push_back({name, total, free, major * 10 + minor});
  }
  return status;
}

}  // namespace spillway::device::cuda
