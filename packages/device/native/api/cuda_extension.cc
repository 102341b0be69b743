// Extension "cuda": what a GPU alone has.
#include "../cuda/cuda_stream.hpp"
#include "arguments.hpp"
#include "extensions.hpp"

namespace spillway::device {
namespace {

spillway_status cuda_info(spillway_device* device, spillway_cuda_info* out, spillway_error* error) {
  return guard(error, [&] {
    check_struct(out, "info");
    const auto& target = cuda::CudaDevice::of(as<Device>(device, "info"), "info");
    out->device = target.number();
    out->compute_capability = static_cast<uint32_t>(target.compute_capability());
    out->multiprocessors = static_cast<uint32_t>(target.multiprocessors());
  });
}
spillway_status cuda_enqueue(spillway_stream* stream, const spillway_access* accesses, uint32_t access_count,
                             spillway_cuda_work work, void* state, spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "enqueue");
    cuda::CudaDevice::of(*target.device(), "enqueue");
    if (work == nullptr || (access_count > 0 && accesses == nullptr)) {
      fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "enqueue", "work and accesses are not NULL");
    }
    check_accesses(target, accesses, access_count, "enqueue");
    static_cast<cuda::CudaStream&>(target).enqueue(accesses, access_count, work, state);
  });
}

constexpr spillway_cuda_api kCudaApi = {sizeof(spillway_cuda_api), 0, cuda_info, cuda_enqueue};

}  // namespace

const spillway_cuda_api* cuda_api(Device* device) {
  return dynamic_cast<cuda::CudaDevice*>(device) != nullptr ? &kCudaApi : nullptr;
}

}  // namespace spillway::device
