#include "cuda_virtual_memory.hpp"

#include "../failure.hpp"
#include "cuda_device.hpp"

namespace spillway::device::cuda {

CudaPhysicalMemory::CudaPhysicalMemory(CudaDevice& device, uint64_t bytes, const std::string& tag)
    : PhysicalMemory(SPILLWAY_KIND_PHYSICAL_MEMORY, &device), bytes_(bytes), charge_(device.budget(), bytes, tag) {
  MemoryProperties properties;
  properties.location.id = device.number();
  Result result = driver().cuMemCreate(&handle_, bytes, &properties, 0);
  if (result == kOutOfMemory && device.allocator().release_cached() > 0) {
    result = driver().cuMemCreate(&handle_, bytes, &properties, 0);
  }
  if (result != kOutOfMemory) {
    device.check(result, "cuMemCreate");
    return;
  }
  size_t free = 0;
  size_t total = 0;
  driver().cuMemGetInfo(&free, &total);
  device.budget().fail_out_of_memory(bytes, free);
}

CudaPhysicalMemory::~CudaPhysicalMemory() {
  static_cast<CudaDevice*>(device())->enter_to_free();
  if (handle_ != 0) driver().cuMemRelease(handle_);
}

CudaAddressRange::CudaAddressRange(CudaDevice& device, uint64_t bytes)
    : AddressRange(SPILLWAY_KIND_ADDRESS_RANGE, &device), pieces_(bytes, device.virtual_memory_granularity()) {
  device.check(driver().cuMemAddressReserve(&address_, bytes, 0, 0, 0), "cuMemAddressReserve");
}

CudaAddressRange::~CudaAddressRange() {
  cuda().enter_to_free();
  pieces_.clear([&](uint64_t offset, uint64_t bytes) { driver().cuMemUnmap(address_ + offset, bytes); });
  if (address_ != 0) driver().cuMemAddressFree(address_, bytes());
}

CudaDevice& CudaAddressRange::cuda() { return *static_cast<CudaDevice*>(device()); }

void CudaAddressRange::map(uint64_t offset, PhysicalMemory& memory) {
  cuda().enter("map");
  auto& physical = static_cast<CudaPhysicalMemory&>(memory);
  pieces_.map(offset, memory, [&] {
    cuda().check(driver().cuMemMap(address_ + offset, physical.bytes(), 0, physical.handle(), 0), "cuMemMap");
    MemoryAccess access;
    access.location.id = cuda().number();
    const Result result = driver().cuMemSetAccess(address_ + offset, physical.bytes(), &access, 1);
    if (result != kSuccess) driver().cuMemUnmap(address_ + offset, physical.bytes());
    cuda().check(result, "cuMemSetAccess");
  });
}

void CudaAddressRange::unmap(uint64_t offset, uint64_t bytes) {
  cuda().enter("unmap");
  // Work that is done may not have been noticed yet.
  if (pieces_.used()) cuda().collect();
  pieces_.unmap(offset, bytes, [&](uint64_t at, uint64_t length) {
    cuda().check(driver().cuMemUnmap(address_ + at, length), "cuMemUnmap");
  });
}

namespace {
class RangeBuffer final : public CudaBuffer {
 public:
  RangeBuffer(CudaDevice& device, CudaAddressRange& range, uint64_t offset, uint64_t bytes)
      : CudaBuffer(SPILLWAY_KIND_DEVICE_BUFFER, device, SPILLWAY_STORAGE_DEVICE, bytes, "virtual"),
        range_(&range),
        offset_(offset) {
    address_ = range.address() + offset;
  }
  void begin_use() override { range_->pieces().begin_use(offset_, bytes()); }
  void end_use() noexcept override { range_->pieces().end_use(); }

 private:
  Ref<CudaAddressRange> range_;
  uint64_t offset_;
};
}  // namespace

Buffer* CudaAddressRange::create_buffer(uint64_t offset, uint64_t buffer_bytes) {
  pieces_.check_part(offset, buffer_bytes);
  return new RangeBuffer(cuda(), *this, offset, buffer_bytes);
}

}  // namespace spillway::device::cuda
