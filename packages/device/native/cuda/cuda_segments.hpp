// Where a GPU's allocator gets its segments: from the driver, whole, or for segments that grow as pieces of physical
// memory mapped into reserved addresses.
#pragma once

#include <map>
#include <mutex>

#include "../allocator/segment_source.hpp"
#include "driver.hpp"

namespace spillway::device::cuda {

class CudaDevice;

class CudaSegments final : public SegmentSource {
 public:
  explicit CudaSegments(CudaDevice& device) : device_(device) {}

  // The driver takes pages of 2 MiB whatever it is asked for; of a small limit that would be too much to count.
  uint64_t granule_bytes() const override;
  uint64_t limit_bytes() const override;
  uint64_t available_bytes() override;
  std::string situation() override;

  uint64_t create(uint64_t bytes, const std::string& pool) override;
  void destroy(uint64_t address, uint64_t bytes, const std::string& pool) noexcept override;

  uint64_t map_granule_bytes() const override;
  uint64_t reserve(uint64_t bytes) override;
  void unreserve(uint64_t address, uint64_t bytes) noexcept override;
  void map(uint64_t address, uint64_t bytes) override;
  void unmap(uint64_t address, uint64_t bytes) noexcept override;

 private:
  void map_piece(Address address);

  CudaDevice& device_;
  std::map<uint64_t, MemoryHandle> pieces_;  // by address, a granule each; the allocator's lock guards it
};

}  // namespace spillway::device::cuda
