#include "virtual_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

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
    : AddressRange(SPILLWAY_KIND_ADDRESS_RANGE, &device), mapping_(Mapping::reserved(bytes)) {
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
  auto* host_device = static_cast<HostDevice*>(device());
  auto turn = host_device->execution_turn();
  host_device->twin_check()->memory().retire(std::move(*guarded_));
}

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
  uint64_t granularity = device()->virtual_memory_granularity();
  if (offset % granularity != 0 || offset > bytes() || physical.bytes() > bytes() - offset) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "map",
         "%llu bytes at offset %llu do not fit a range of %llu bytes, or the offset is no multiple of %llu",
         static_cast<unsigned long long>(physical.bytes()), static_cast<unsigned long long>(offset),
         static_cast<unsigned long long>(bytes()), static_cast<unsigned long long>(granularity));
  }
  std::lock_guard lock(mutex_);
  auto next = pieces_.lower_bound(offset);
  bool taken = next != pieces_.end() && next->first < offset + physical.bytes();
  if (next != pieces_.begin()) {
    auto before = std::prev(next);
    taken = taken || before->first + before->second->bytes() > offset;
  }
  if (taken) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "map", "part of this address range is mapped already");
  static_cast<HostDevice*>(device())->failures().pass(FailurePoint::kMapping, "map");
  auto entry = pieces_.emplace(offset, Ref<HostPhysicalMemory>(&physical)).first;
  try {
    map_fixed(mapping_.data() + offset, physical.extent(), PROT_READ | PROT_WRITE);
    if (guarded_) map_fixed(guarded_->data() + offset, physical.extent(), PROT_NONE);
  } catch (...) {
    clear_fixed(mapping_.data() + offset, physical.bytes());
    pieces_.erase(entry);
    throw;
  }
}

void HostAddressRange::unmap(uint64_t offset, uint64_t bytes) {
  // Before the lock: the checker visits ranges while it holds its own.
  OrderChecker* checker = static_cast<HostDevice*>(device())->checker();
  if (checker && offset <= this->bytes() && bytes <= this->bytes() - offset) {
    checker->unmapped(*addresses_, offset, bytes, label_);
  }
  std::lock_guard lock(mutex_);
  auto first = pieces_.lower_bound(offset);
  auto last = first;
  uint64_t end = offset;
  while (last != pieces_.end() && last->first == end && end - offset < bytes) {
    end += last->second->bytes();
    ++last;
  }
  if (bytes == 0 || end - offset != bytes) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "unmap", "memory is unmapped whole, as it was mapped; this range is not");
  }
  if (uses_ > 0) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "unmap",
         "enqueued work still uses this address range; synchronize its streams first");
  }
  static_cast<HostDevice*>(device())->failures().pass(FailurePoint::kMapping, "unmap");
  clear_fixed(mapping_.data() + offset, bytes);
  if (guarded_) clear_fixed(guarded_->data() + offset, bytes);
  pieces_.erase(first, last);
}

bool HostAddressRange::mapped_whole(uint64_t offset, uint64_t bytes) const {
  auto piece = pieces_.upper_bound(offset);
  if (piece == pieces_.begin()) return false;
  --piece;
  uint64_t end = offset + bytes;
  uint64_t covered = offset;
  for (; piece != pieces_.end() && piece->first <= covered; ++piece) {
    covered = std::max(covered, piece->first + piece->second->bytes());
    if (covered >= end) return true;
  }
  return false;
}

void HostAddressRange::begin_use(uint64_t offset, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  if (!mapped_whole(offset, bytes)) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "enqueue",
         "no memory is mapped at the addresses of this buffer; map it (or wake its owner) first");
  }
  ++uses_;
}

void HostAddressRange::end_use() noexcept {
  std::lock_guard lock(mutex_);
  --uses_;
}

void HostAddressRange::visit_pieces(uint64_t offset, uint64_t bytes, const VisitPiece& visit) const {
  std::lock_guard lock(mutex_);
  const uint64_t end = offset + bytes;
  auto piece = pieces_.upper_bound(offset);
  if (piece != pieces_.begin()) --piece;
  for (; piece != pieces_.end() && piece->first < end; ++piece) {
    const uint64_t from = std::max(offset, piece->first);
    const uint64_t to = std::min(end, piece->first + piece->second->bytes());
    if (from < to) visit(*piece->second, from - piece->first, to - from, from - offset);
  }
}

void HostAddressRange::visit_histories(uint64_t offset, uint64_t bytes, const HostBuffer::Visit& visit) {
  visit_pieces(offset, bytes, [&](HostPhysicalMemory& memory, uint64_t at, uint64_t length, uint64_t in_part) {
    visit(*memory.history(), at, length, in_part);
  });
}

void HostAddressRange::visit_physical(uint64_t offset, uint64_t bytes, const HostBuffer::VisitPhysical& visit) const {
  visit_pieces(offset, bytes, [&](HostPhysicalMemory& memory, uint64_t at, uint64_t length, uint64_t in_part) {
    visit(memory.extent().offset() + at, length, in_part);
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
    range_->visit_histories(offset_ + offset, bytes,
                            [&](AccessHistory& history, uint64_t at, uint64_t length, uint64_t in_part) {
                              visit(history, at, length, offset + in_part);
                            });
  }
  void visit_physical(uint64_t offset, uint64_t bytes, const VisitPhysical& visit) const override {
    range_->visit_physical(offset_ + offset, bytes, [&](uint64_t physical, uint64_t length, uint64_t in_part) {
      visit(physical, length, offset + in_part);
    });
  }
  void visit_addresses(uint64_t offset, uint64_t bytes, const Visit& visit) override {
    visit(*range_->addresses(), offset_ + offset, bytes, offset);
  }
  void begin_use() override { range_->begin_use(offset_, bytes()); }
  void end_use() noexcept override { range_->end_use(); }

 private:
  Ref<HostAddressRange> range_;
  uint64_t offset_;
};
}  // namespace

Buffer* HostAddressRange::create_buffer(uint64_t offset, uint64_t buffer_bytes) {
  if (buffer_bytes == 0 || offset > bytes() || buffer_bytes > bytes() - offset) {
    fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "buffer", "%llu bytes at offset %llu lie outside a range of %llu bytes",
         static_cast<unsigned long long>(buffer_bytes), static_cast<unsigned long long>(offset),
         static_cast<unsigned long long>(bytes()));
  }
  static_cast<HostDevice*>(device())->failures().pass(FailurePoint::kMapping, "buffer");
  return new RangeBuffer(*static_cast<HostDevice*>(device()), *this, offset, buffer_bytes);
}

}  // namespace spillway::device::host
