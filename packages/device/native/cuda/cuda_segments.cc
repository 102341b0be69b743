#include "cuda_segments.hpp"

#include <algorithm>
#include <bit>

#include "cuda_device.hpp"

namespace spillway::device::cuda {

uint64_t CudaSegments::limit_bytes() const { return device_.budget().reading().limit_bytes; }

uint64_t CudaSegments::granule_bytes() const {
  return std::clamp(std::bit_floor(limit_bytes() / 64), kBlockGranuleBytes, uint64_t{2} << 20);
}

uint64_t CudaSegments::available_bytes() {
  size_t free = 0;
  size_t total = 0;
  const RelaxedCapture relaxed;
  device_.enter_to_free();
  if (driver().cuMemGetInfo(&free, &total) != kSuccess) return 0;
  return std::min<uint64_t>(device_.budget().segment_rest_bytes(), free);
}

std::string CudaSegments::situation() { return device_.budget().situation(available_bytes()); }

uint64_t CudaSegments::create(uint64_t bytes, const std::string&) {
  device_.enter("buffer_create");
  device_.budget().hold_segment(bytes);
  const RelaxedCapture relaxed;
  Address address = 0;
  try {
    device_.check(driver().cuMemAlloc(&address, bytes), "cuMemAlloc");
  } catch (...) {
    device_.budget().drop_segment(bytes);
    throw;
  }
  return address;
}

void CudaSegments::destroy(uint64_t address, uint64_t bytes, const std::string&) noexcept {
  const RelaxedCapture relaxed;
  device_.enter_to_free();
  driver().cuMemFree(address);
  device_.budget().drop_segment(bytes);
}

// A piece costs the driver some 0.1 ms, however small.
uint64_t CudaSegments::map_granule_bytes() const {
  constexpr uint64_t kPieceBytes = 16 << 20;
  const uint64_t least = device_.virtual_memory_granularity();
  return least == 0 ? 0 : std::max(least, kPieceBytes);
}

uint64_t CudaSegments::reserve(uint64_t bytes) {
  device_.enter("buffer_create");
  const RelaxedCapture relaxed;
  Address address = 0;
  device_.check(driver().cuMemAddressReserve(&address, bytes, 0, 0, 0), "cuMemAddressReserve");
  return address;
}

void CudaSegments::unreserve(uint64_t address, uint64_t bytes) noexcept {
  const RelaxedCapture relaxed;
  device_.enter_to_free();
  driver().cuMemAddressFree(address, bytes);
}

void CudaSegments::map(uint64_t address, uint64_t bytes) {
  device_.enter("buffer_create");
  device_.budget().hold_segment(bytes);
  const RelaxedCapture relaxed;
  uint64_t done = 0;
  try {
    for (; done < bytes; done += map_granule_bytes()) map_piece(address + done);
  } catch (...) {
    device_.budget().drop_segment(bytes - done);
    if (done > 0) unmap(address, done);
    throw;
  }
}

void CudaSegments::map_piece(Address address) {
  const uint64_t bytes = map_granule_bytes();
  MemoryProperties properties;
  properties.location.id = device_.number();
  MemoryHandle handle = 0;
  device_.check(driver().cuMemCreate(&handle, bytes, &properties, 0), "cuMemCreate");
  Result result = driver().cuMemMap(address, bytes, 0, handle, 0);
  if (result == kSuccess) {
    MemoryAccess access;
    access.location.id = device_.number();
    result = driver().cuMemSetAccess(address, bytes, &access, 1);
    if (result != kSuccess) driver().cuMemUnmap(address, bytes);
  }
  try {
    device_.check(result, "cuMemMap");
    pieces_.emplace(address, handle);
  } catch (...) {
    if (result == kSuccess) driver().cuMemUnmap(address, bytes);
    driver().cuMemRelease(handle);
    throw;
  }
}

void CudaSegments::unmap(uint64_t address, uint64_t bytes) noexcept {
  const RelaxedCapture relaxed;
  device_.enter_to_free();
  const auto end = pieces_.lower_bound(address + bytes);
  for (auto piece = pieces_.lower_bound(address); piece != end; piece = pieces_.erase(piece)) {
    driver().cuMemUnmap(piece->first, map_granule_bytes());
    driver().cuMemRelease(piece->second);
  }
  device_.budget().drop_segment(bytes);
}

}  // namespace spillway::device::cuda
