#include "cuda_host_memory.hpp"

#include "../failure.hpp"
#include "../host_memory/host_memory_account.hpp"
#include "../host_memory/numa_node.hpp"
#include "cuda_device.hpp"

namespace spillway::device::cuda {

constexpr uint32_t kPortable = 1;
constexpr uint32_t kMapped = 2;
// Of these the driver takes several from one piece of 2 MiB: 3 us for 4 KiB, 17 us for 64 KiB. A registration takes 50
// to 90 us; a piece for one buffer alone 360 us (H200, driver 580).
constexpr uint64_t kPlainBelow = 256 << 10;

Registration::Registration(CudaDevice& device, HostRegion& region, uint32_t flags)
    : device_(device), data_(region.data()) {
  device.enter("buffer_create");
  const Result result = driver().cuMemHostRegister(data_, region.bytes(), flags);
  if (result != kOutOfMemory && result != kOperatingSystem) {
    device.check(result, "cuMemHostRegister");
    return;
  }
  const std::optional<uint64_t> lockable = read_lockable_bytes("");
  spillway_error error = empty_error();
  error.status = SPILLWAY_STATUS_OUT_OF_MEMORY;
  error.native_code = result;
  error.requested_bytes = region.bytes();
  std::snprintf(error.call, sizeof error.call, "cuMemHostRegister");
  std::snprintf(error.message, sizeof error.message,
                "the driver does not pin %s. The limit of locked memory is %s: raise it with ulimit -l, LimitMEMLOCK= "
                "of systemd or docker --ulimit memlock=-1. Or do without: --pin-memory off",
                format_bytes(region.bytes()).c_str(), lockable ? format_bytes(*lockable).c_str() : "not set");
  throw HostMemoryRefusal(error, "memlock", lockable.value_or(0));
}

Registration::~Registration() {
  device_.enter_to_free();
  driver().cuMemHostUnregister(data_);
}

static bool registers_in_place(const CudaDevice& device) {
  constexpr int32_t kSameAddress = 91;  // CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
  constexpr int32_t kRegisters = 99;    // CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED
  int32_t same_address = 0;
  int32_t registers = 0;
  return driver().cuDeviceGetAttribute(&same_address, kSameAddress, device.number()) == kSuccess &&
         driver().cuDeviceGetAttribute(&registers, kRegisters, device.number()) == kSuccess && same_address != 0 &&
         registers != 0;
}

HostMemory::HostMemory(CudaDevice& device, uint32_t storage, uint64_t bytes, HostAllocation& allocation)
    : CudaBuffer(SPILLWAY_KIND_HOST_BUFFER, device, storage, bytes, "") {
  allocation.reserve(storage, bytes);
  check_registration_bytes(storage, bytes);
  allocation.check();
  const bool pins = storage != SPILLWAY_STORAGE_PAGEABLE;
  const uint32_t flags = kPortable | (storage == SPILLWAY_STORAGE_MAPPED ? kMapped : 0);
  if (pins && (bytes < kPlainBelow || !registers_in_place(device))) {
    void* data = nullptr;
    device.check(driver().cuMemHostAlloc(&data, bytes, flags), "cuMemHostAlloc");
    allocation.took(bytes);
    address_ = reinterpret_cast<Address>(data);
  } else {
    region_.emplace(HostRegion::for_buffer(bytes));
    if (pins) {
      region_->touch(allocation, cpus_of_node("", device.numa_node()));
      // Afterwards: both at once take as long (8 GiB 0.30 s, 32 GiB 1.2 s on an H200 either way), and an abort would
      // have to wait for the driver.
      registration_.emplace(device, *region_, flags);
      allocation.check();
    } else {
      allocation.took(bytes);
    }
    address_ = reinterpret_cast<Address>(region_->data());
  }
  device.counters().host_storage_bytes[storage].fetch_add(bytes, std::memory_order_relaxed);
}

HostMemory::~HostMemory() {
  if (region_) {
    registration_.reset();
    region_.reset();
  } else {
    static_cast<CudaDevice*>(device())->enter_to_free();
    // NOLINTNEXTLINE(performance-no-int-to-ptr): as above
    driver().cuMemFreeHost(reinterpret_cast<void*>(address_));
  }
  device()->counters().host_storage_bytes[storage()].fetch_sub(bytes(), std::memory_order_relaxed);
}

}  // namespace spillway::device::cuda
