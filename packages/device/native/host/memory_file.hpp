// The physical memory of a host device: one sparse memory file (memfd). Being a file it can be mapped at several
// addresses and unmapped without losing its contents, and a hole punched in it really goes back to the system.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

namespace spillway::device::host {

class MemoryFile {
 public:
  /// A part of the file that holds real pages. Punched when it dies; any thread.
  class Extent {
   public:
    Extent(MemoryFile* file, uint64_t offset, uint64_t bytes) : file_(file), offset_(offset), bytes_(bytes) {}
    Extent(Extent&& other) noexcept;
    Extent& operator=(Extent&&) = delete;
    ~Extent();
    uint64_t offset() const { return offset_; }
    uint64_t bytes() const { return bytes_; }
    int descriptor() const { return file_->descriptor_; }

   private:
    MemoryFile* file_;
    uint64_t offset_;
    uint64_t bytes_;
  };

  /// name: what the system calls it.
  explicit MemoryFile(const char* name);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  /// Pages are taken from the system at once, so that running out is an error here and not a SIGBUS later.
  /// bytes: a multiple of page_bytes(). Throws StatusError: SYSTEM with ENOSPC or ENOMEM when the system has none.
  Extent take(uint64_t bytes);

  static uint64_t page_bytes();

 private:
  void give_back(uint64_t offset, uint64_t bytes) noexcept;

  std::mutex mutex_;
  int descriptor_;
  uint64_t size_ = 0;
  std::map<uint64_t, uint64_t> free_;  // offset → bytes, neighbours merged
};

/// A mapping of memory into the process, unmapped when it dies.
class Mapping {
 public:
  /// Of an extent, readable and writable.
  static Mapping of(const MemoryFile::Extent& extent);
  /// Addresses without memory; reading them faults.
  static Mapping reserved(uint64_t bytes);
  /// All of the extent, at an address of reserved ones. Throws, and changes nothing.
  void map(uint64_t address, const MemoryFile::Extent& extent) {
    map(address, extent.descriptor(), extent.offset(), extent.bytes());
  }
  void map(uint64_t address, int descriptor, uint64_t in_file, uint64_t bytes);
  /// Addresses without memory again.
  void unmap(uint64_t address, uint64_t bytes) noexcept;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping();
  uint8_t* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  Mapping(void* data, uint64_t bytes) : data_(static_cast<uint8_t*>(data)), bytes_(bytes) {}
  uint8_t* data_;
  uint64_t bytes_;
};

uint64_t round_up(uint64_t bytes, uint64_t to);

}  // namespace spillway::device::host
