// Memory of the host device: plain device memory, host memory of the three kinds, and part of an address range.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../block_lease.hpp"
#include "../device.hpp"
#include "../host_memory/host_region.hpp"
#include "check/access_history.hpp"
#include "host_segments.hpp"
#include "memory_file.hpp"

namespace spillway::device::host {

class HostDevice;
class HostAddressRange;

/// Fresh device memory holds this in every byte: NaN in f32, f16 and bf16, so that reading before writing shows.
inline constexpr uint8_t kFreshPoison = 0xff;

class HostBuffer : public Buffer {
 public:
  spillway_buffer_info info() const override;
  std::unique_lock<std::mutex> begin_host_access(uint64_t offset, uint64_t bytes, uint32_t mode) override;

  uint8_t* data() const { return data_; }
  /// Where kernels see it.
  uint8_t* kernel_data() const { return kernel_data_; }
  uint64_t bytes() const { return bytes_; }
  uint32_t storage() const { return storage_; }
  bool on_device() const { return storage_ == SPILLWAY_STORAGE_DEVICE; }
  /// Tag of device memory; empty for host memory.
  const std::string& tag() const { return tag_; }
  /// What reports of the checkers call it; empty without them.
  const std::string& label() const { return label_; }

  /// Called when work that touches the buffer is enqueued, and when it is done. Throws when there is no memory behind
  /// the address.
  virtual void begin_use() {}
  virtual void end_use() noexcept {}
  /// Of memory that others may have, in the order of streams, once nobody refers to it; null: of none such.
  virtual StreamUses* stream_uses() { return nullptr; }

  /// For the order checker, which guards the histories.
  using Visit = std::function<void(AccessHistory& history, uint64_t in_history, uint64_t bytes, uint64_t in_buffer)>;
  virtual void visit_histories(uint64_t offset, uint64_t bytes, const Visit& visit);
  /// Where its bytes really are, as the same number for all addresses of the same byte.
  using VisitPhysical = std::function<void(uint64_t physical, uint64_t bytes, uint64_t in_buffer)>;
  virtual void visit_physical(uint64_t offset, uint64_t bytes, const VisitPhysical& visit) const = 0;
  /// Of addresses that can lose their memory.
  virtual void visit_addresses(uint64_t /*offset*/, uint64_t /*bytes*/, const Visit& /*visit*/) {}

 protected:
  HostBuffer(uint32_t kind, HostDevice& device, uint32_t storage, uint64_t bytes, std::string tag);
  uint8_t* data_ = nullptr;
  uint8_t* kernel_data_ = nullptr;  // what kernels see; another mapping of the same memory when they are checked
  std::unique_ptr<AccessHistory> history_;

 private:
  const std::string tag_;
  const uint32_t storage_;
  const uint64_t bytes_;
  std::string label_;
};

/// Device memory: a block of a cached segment. What has nobody to refer to it is free for others at once, in the order
/// of streams, while the object lives for as long as work holds it.
class DeviceMemory final : public HostBuffer {
 public:
  DeviceMemory(HostDevice& device, const DeviceAllocation& wanted);
  ~DeviceMemory() override;
  StreamUses* stream_uses() override { return &lease_.uses(); }
  void visit_histories(uint64_t offset, uint64_t bytes, const Visit& visit) override;
  void visit_physical(uint64_t offset, uint64_t bytes, const VisitPhysical& visit) const override;

 private:
  void retire() noexcept override;
  void poison(Stream* stream);

  struct Piece {
    uint64_t in_buffer;
    uint64_t in_file;
    uint64_t bytes;
  };
  BlockLease lease_;
  HostSegments::Place place_;
  // When kernels are checked:
  std::vector<Piece> pieces_;
  std::optional<Mapping> guarded_;
};

/// Host memory. The host device pins by giving the memory its pages at once and marking it; it never calls mlock, whose
/// usual limit is 8 MiB.
class HostMemory final : public HostBuffer {
 public:
  HostMemory(HostDevice& device, uint32_t storage, uint64_t bytes, HostAllocation& allocation);
  ~HostMemory() override;
  /// By address: it has no other that counts.
  void visit_physical(uint64_t offset, uint64_t bytes, const VisitPhysical& visit) const override {
    visit(reinterpret_cast<uint64_t>(data_) + offset, bytes, offset);
  }

 private:
  std::optional<HostRegion> region_;
  // Instead of a region, of a memory file, when kernels that read it in place are checked: it is mapped twice then.
  std::optional<MemoryFile::Extent> extent_;
  std::optional<Mapping> mapping_;
  std::optional<Mapping> guarded_;
};

}  // namespace spillway::device::host
