#include "cuda_buffer.hpp"

#include "../failure.hpp"
#include "../host_memory/host_memory_account.hpp"
#include "../host_memory/numa_node.hpp"
#include "cuda_device.hpp"

namespace spillway::device::cuda {

constexpr uint32_t kPortable = 1;
constexpr uint32_t kMapped = 2;
// What the driver rounds to.
constexpr uint64_t kDeviceGranuleBytes = 512;
// Of these the driver takes several from one piece of 2 MiB: 3 us for 4 KiB, 17 us for 64 KiB. A registration takes 50
// to 90 us; a piece for one buffer alone 360 us (H200, driver 580).
constexpr uint64_t kPlainBelow = 256 << 10;
// A registration of 512 GiB was seen to fail (vllm#51081).
constexpr uint64_t kSurelyRegistered = uint64_t{64} << 30;

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

Registration::Registration(CudaDevice& device, HostRegion& region, uint32_t flags)
    : device_(device), data_(region.data()) {
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
                "of systemd or docker --ulimit memlock=-1%s. Or do without: --pin-memory off",
                format_bytes(region.bytes()).c_str(), lockable ? format_bytes(*lockable).c_str() : "not set",
                region.bytes() > kSurelyRegistered ? ", and allocate buffers of at most 64 GiB" : "");
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
