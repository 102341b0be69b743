#include "virtual_memory.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "../failure.hpp"
#include "host_device.hpp"

namespace spillway::device::host {

HostPhysicalMemory::HostPhysicalMemory(HostDevice& device, uint64_t bytes, const std::string& tag)
    : PhysicalMemory(SPILLWAY_KIND_PHYSICAL_MEMORY, &device),
      charge_(device.budget(), bytes, tag),
      extent_(device.take_memory(bytes)) {
  Mapping window = Mapping::of(extent_);
  std::memset(window.data(), kFreshPoison, window.bytes());
}

HostAddressRange::HostAddressRange(HostDevice& device, uint64_t bytes)
    : AddressRange(SPILLWAY_KIND_ADDRESS_RANGE, &device), mapping_(Mapping::reserved(bytes)) {}

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
  auto entry = pieces_.emplace(offset, Ref<HostPhysicalMemory>(&physical)).first;
  void* at = mmap(mapping_.data() + offset, physical.bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                  physical.extent().descriptor(), static_cast<off_t>(physical.extent().offset()));
  if (at == MAP_FAILED) {
    int code = errno;
    pieces_.erase(entry);
    fail_system("map", code, "mapping device memory failed");
  }
}

void HostAddressRange::unmap(uint64_t offset, uint64_t bytes) {
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
  void* at =
      mmap(mapping_.data() + offset, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (at == MAP_FAILED) fail_system("unmap", errno, "unmapping device memory failed");
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

namespace {
class RangeBuffer final : public HostBuffer {
 public:
  RangeBuffer(HostDevice& device, HostAddressRange& range, uint64_t offset, uint64_t bytes)
      : HostBuffer(SPILLWAY_KIND_DEVICE_BUFFER, device, SPILLWAY_STORAGE_DEVICE, bytes, "virtual"),
        range_(&range),
        offset_(offset) {
    data_ = range.data() + offset;
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
  return new RangeBuffer(*static_cast<HostDevice*>(device()), *this, offset, buffer_bytes);
}

}  // namespace spillway::device::host
