#include "virtual_memory.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "../failure.hpp"
#include "host_device.hpp"

namespace spillway::device::host {

HostPhysicalMemory::HostPhysicalMemory(HostDevice& device, uint64_t bytes, const std::string& tag)
    : PhysicalMemory(SPILLWAY_KIND_PHYSICAL_MEMORY, &device),
      history_(device.checker() ? std::make_unique<AccessHistory>(bytes, false) : nullptr),
      charge_(device.budget(), bytes, tag),
      extent_(device.take_memory(bytes)) {
  Mapping window = Mapping::of(extent_);
  std::memset(window.data(), kFreshPoison, window.bytes());
}

HostAddressRange::HostAddressRange(HostDevice& device, uint64_t bytes)
    : AddressRange(SPILLWAY_KIND_ADDRESS_RANGE, &device),
      pieces_(bytes, device.virtual_memory_granularity()),
      mapping_(Mapping::reserved(bytes)) {
  if (TwinCheck* twins = device.twin_check()) {
    guarded_.emplace(Mapping::reserved(bytes));
    auto turn = device.execution_turn();
    label_ = "address range " + std::to_string(device.checker()->next_number(false)) + " of " + std::to_string(bytes) +
             " bytes";
    twins->memory().add(*guarded_, label_);
    addresses_ = std::make_unique<AccessHistory>(bytes, true);
  }
}

HostAddressRange::~HostAddressRange() {
  if (!guarded_) return;
  auto turn = host().execution_turn();
  host().twin_check()->memory().retire(std::move(*guarded_));
}

HostDevice& HostAddressRange::host() { return *static_cast<HostDevice*>(device()); }

static void map_fixed(uint8_t* at, const MemoryFile::Extent& extent, int protection) {
  if (mmap(at, extent.bytes(), protection, MAP_SHARED | MAP_FIXED, extent.descriptor(),
           static_cast<off_t>(extent.offset())) == MAP_FAILED) {
    fail_system("map", errno, "mapping device memory failed");
  }
}

static void clear_fixed(uint8_t* at, uint64_t bytes) {
  if (mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
    fail_system("unmap", errno, "unmapping device memory failed");
  }
}

void HostAddressRange::map(uint64_t offset, PhysicalMemory& memory) {
  auto& physical = static_cast<HostPhysicalMemory&>(memory);
  pieces_.map(offset, memory, [&] {
    host().failures().pass(FailurePoint::kMapping, "map");
    map_fixed(mapping_.data() + offset, physical.extent(), PROT_READ | PROT_WRITE);
    if (!guarded_) return;
    try {
      map_fixed(guarded_->data() + offset, physical.extent(), PROT_NONE);
    } catch (...) {
      clear_fixed(mapping_.data() + offset, physical.bytes());
      throw;
    }
  });
}

void HostAddressRange::unmap(uint64_t offset, uint64_t bytes) {
  // Before the range is locked: the checker visits ranges while it holds its own lock.
  OrderChecker* checker = host().checker();
  if (checker && offset <= this->bytes() && bytes <= this->bytes() - offset) {
    checker->unmapped(*addresses_, offset, bytes, label_);
  }
  pieces_.unmap(offset, bytes, [&](uint64_t at, uint64_t length) {
    if (at == offset) host().failures().pass(FailurePoint::kMapping, "unmap");
    clear_fixed(mapping_.data() + at, length);
    if (guarded_) clear_fixed(guarded_->data() + at, length);
  });
}

namespace {
class RangeBuffer final : public HostBuffer {
 public:
  RangeBuffer(HostDevice& device, HostAddressRange& range, uint64_t offset, uint64_t bytes)
      : HostBuffer(SPILLWAY_KIND_DEVICE_BUFFER, device, SPILLWAY_STORAGE_DEVICE, bytes, "virtual"),
        range_(&range),
        offset_(offset) {
    data_ = range.data() + offset;
    kernel_data_ = range.kernel_data() + offset;
  }
  void visit_histories(uint64_t offset, uint64_t bytes, const Visit& visit) override {
    range_->pieces().visit(offset_ + offset, bytes,
                           [&](PhysicalMemory& memory, uint64_t at, uint64_t length, uint64_t in_part) {
                             visit(*static_cast<HostPhysicalMemory&>(memory).history(), at, length, offset + in_part);
                           });
  }
  void visit_physical(uint64_t offset, uint64_t bytes, const VisitPhysical& visit) const override {
    range_->pieces().visit(offset_ + offset, bytes,
                           [&](PhysicalMemory& memory, uint64_t at, uint64_t length, uint64_t in_part) {
                             const auto& physical = static_cast<HostPhysicalMemory&>(memory);
                             visit(physical.extent().offset() + at, length, offset + in_part);
                           });
  }
  void visit_addresses(uint64_t offset, uint64_t bytes, const Visit& visit) override {
    visit(*range_->addresses(), offset_ + offset, bytes, offset);
  }
  void begin_use() override { range_->pieces().begin_use(offset_, bytes()); }
  void end_use() noexcept override { range_->pieces().end_use(); }

 private:
  Ref<HostAddressRange> range_;
  uint64_t offset_;
};
}  // namespace

Buffer* HostAddressRange::create_buffer(uint64_t offset, uint64_t buffer_bytes) {
  pieces_.check_part(offset, buffer_bytes);
  host().failures().pass(FailurePoint::kMapping, "buffer");
  return new RangeBuffer(host(), *this, offset, buffer_bytes);
}

}  // namespace spillway::device::host
