#include "cuda_buffer.hpp"

#include "../failure.hpp"
#include "cuda_device.hpp"

namespace spillway::device::cuda {

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

DeviceMemory::DeviceMemory(CudaDevice& device, const DeviceAllocation& wanted)
    : CudaBuffer(SPILLWAY_KIND_DEVICE_BUFFER, device, SPILLWAY_STORAGE_DEVICE, wanted.bytes, wanted.tag),
      lease_(device, wanted) {
  address_ = lease_.address();
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
