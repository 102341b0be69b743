#include "cuda_buffer.hpp"

#include "../failure.hpp"
#include "cuda_device.hpp"

namespace spillway::device::cuda {

// What the driver rounds to.
constexpr uint64_t kDeviceGranuleBytes = 512;
static uint64_t round_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

CudaBuffer::CudaBuffer(uint32_t kind, CudaDevice& device, uint32_t storage, uint64_t bytes, std::string tag)
    : Buffer(kind, &device), tag_(std::move(tag)), storage_(storage), bytes_(bytes) {}

spillway_buffer_info CudaBuffer::info() const {
  spillway_buffer_info info{};
  info.struct_size = sizeof info;
  info.storage = storage_;
  info.bytes = bytes_;
  const bool reachable = storage_ == SPILLWAY_STORAGE_DEVICE || storage_ == SPILLWAY_STORAGE_MAPPED;
  info.device_address = reachable ? address_ : 0;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver gives addresses as numbers
  info.host_address = on_device() ? nullptr : reinterpret_cast<void*>(address_);
  return info;
}

DeviceMemory::DeviceMemory(CudaDevice& device, uint64_t bytes, const std::string& tag)
    : CudaBuffer(SPILLWAY_KIND_DEVICE_BUFFER, device, SPILLWAY_STORAGE_DEVICE, bytes, tag),
      charge_(device.budget(), round_up(bytes, kDeviceGranuleBytes), tag) {
  const Result result = driver().cuMemAlloc(&address_, bytes);
  if (result != kOutOfMemory) {
    device.check(result, "cuMemAlloc");
    return;
  }
  size_t free = 0;
  size_t total = 0;
  driver().cuMemGetInfo(&free, &total);
  device.budget().fail_out_of_memory(round_up(bytes, kDeviceGranuleBytes), free);
}

DeviceMemory::~DeviceMemory() {
  if (address_ == 0) return;
  static_cast<CudaDevice*>(device())->enter_to_free();
  driver().cuMemFree(address_);
}

BorrowedMemory::BorrowedMemory(CudaDevice& device, Address address, uint64_t bytes)
    : CudaBuffer(SPILLWAY_KIND_DEVICE_BUFFER, device, SPILLWAY_STORAGE_DEVICE, bytes, "borrowed") {
  constexpr int32_t kDeviceOrdinal = 9;  // CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
  Address base = 0;
  size_t size = 0;
  int32_t owner = -1;
  const bool known = driver().cuMemGetAddressRange(&base, &size, address) == kSuccess &&
                     driver().cuPointerGetAttribute(&owner, kDeviceOrdinal, address) == kSuccess;
  if (!known || owner != device.number()) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "buffer_wrap", "the pointer is no device memory of this GPU");
  }
  if (bytes == 0 || bytes > size - (address - base)) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "buffer_wrap", "behind the pointer lie %llu bytes, not %llu",
         static_cast<unsigned long long>(size - (address - base)), static_cast<unsigned long long>(bytes));
  }
  address_ = address;
}

}  // namespace spillway::device::cuda
