#include "memory_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <utility>

#include "../failure.hpp"

namespace spillway::device::host {

uint64_t round_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

uint64_t MemoryFile::page_bytes() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

MemoryFile::MemoryFile(const char* name) : descriptor_(memfd_create(name, MFD_CLOEXEC)) {
  if (descriptor_ < 0) fail_system("memfd_create", errno, "the host device needs a memory file");
}

MemoryFile::~MemoryFile() { close(descriptor_); }

MemoryFile::Extent MemoryFile::take(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  auto best = free_.end();
  for (auto entry = free_.begin(); entry != free_.end(); ++entry) {
    if (entry->second >= bytes && (best == free_.end() || entry->second < best->second)) best = entry;
  }
  uint64_t offset = best == free_.end() ? size_ : best->first;
  // fallocate also grows the file. It is interrupted by any signal, long ones by design.
  int failed;
  do {
    failed = fallocate(descriptor_, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  } while (failed != 0 && errno == EINTR);
  if (failed != 0) {
    int code = errno;
    // What was filled before the failure goes back.
    fallocate(descriptor_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
              static_cast<off_t>(bytes));
    fail_system("fallocate", code, "the system has no memory for the host device");
  }
  if (best == free_.end()) {
    size_ += bytes;
  } else {
    uint64_t rest = best->second - bytes;
    free_.erase(best);
    if (rest > 0) free_.emplace(offset + bytes, rest);
  }
  return Extent(this, offset, bytes);
}

void MemoryFile::give_back(uint64_t offset, uint64_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  while (fallocate(descriptor_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                   static_cast<off_t>(bytes)) != 0 &&
         errno == EINTR) {
  }
  auto next = free_.lower_bound(offset);
  if (next != free_.end() && next->first == offset + bytes) {
    bytes += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == offset) {
      before->second += bytes;
      return;
    }
  }
  free_.emplace(offset, bytes);
}

MemoryFile::Extent::Extent(Extent&& other) noexcept
    : file_(std::exchange(other.file_, nullptr)), offset_(other.offset_), bytes_(other.bytes_) {}

MemoryFile::Extent::~Extent() {
  if (file_) file_->give_back(offset_, bytes_);
}

Mapping Mapping::of(const MemoryFile::Extent& extent) {
  void* data = mmap(nullptr, extent.bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, extent.descriptor(),
                    static_cast<off_t>(extent.offset()));
  if (data == MAP_FAILED) fail_system("mmap", errno, "mapping device memory failed");
  return Mapping(data, extent.bytes());
}

Mapping Mapping::reserved(uint64_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) fail_system("mmap", errno, "the address space has no free range of this size");
  return Mapping(data, bytes);
}

// NOLINTBEGIN(performance-no-int-to-ptr): addresses of segments are numbers
void Mapping::map(uint64_t address, int descriptor, uint64_t in_file, uint64_t bytes) {
  if (mmap(reinterpret_cast<void*>(address), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, descriptor,
           static_cast<off_t>(in_file)) == MAP_FAILED) {
    fail_system("mmap", errno, "mapping device memory failed");
  }
}

void Mapping::unmap(uint64_t address, uint64_t bytes) noexcept {
  if (bytes == 0) return;
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  // When the process has too many mappings the old one stays; its memory is given back all the same.
  static_cast<void>(mmap(reinterpret_cast<void*>(address), bytes, PROT_NONE, kFlags, -1, 0));
}
// NOLINTEND(performance-no-int-to-ptr)

Mapping::Mapping(Mapping&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}

Mapping::~Mapping() {
  if (data_) munmap(data_, bytes_);
}

}  // namespace spillway::device::host
