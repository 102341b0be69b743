// Addresses and memory apart, on a GPU.
#pragma once

#include "../address_map.hpp"
#include "cuda_buffer.hpp"

namespace spillway::device::cuda {

class CudaPhysicalMemory final : public PhysicalMemory {
 public:
  CudaPhysicalMemory(CudaDevice& device, uint64_t bytes, const std::string& tag);
  ~CudaPhysicalMemory() override;
  uint64_t bytes() const override { return bytes_; }
  MemoryHandle handle() const { return handle_; }

 private:
  const uint64_t bytes_;
  Charge charge_;
  MemoryHandle handle_ = 0;
};

class CudaAddressRange final : public AddressRange {
 public:
  CudaAddressRange(CudaDevice& device, uint64_t bytes);
  ~CudaAddressRange() override;
  uint64_t bytes() const override { return pieces_.bytes(); }
  Address address() const { return address_; }
  AddressMap& pieces() { return pieces_; }
  void map(uint64_t offset, PhysicalMemory& memory) override;
  void unmap(uint64_t offset, uint64_t bytes) override;
  Buffer* create_buffer(uint64_t offset, uint64_t bytes) override;

 private:
  CudaDevice& cuda();

  AddressMap pieces_;
  Address address_ = 0;
};

}  // namespace spillway::device::cuda
