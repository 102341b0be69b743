// The addresses that kernels under check see: a second mapping of every buffer they can reach, closed to all access
// except while a kernel runs that declared it. Everybody else uses the first mapping, so only kernels ever fault.
#pragma once

#include <deque>
#include <map>
#include <string>

#include "../memory_file.hpp"

namespace spillway::device::host {

/// All methods but find: while the device's execution turn is held.
class GuardedMemory {
 public:
  struct Region {
    uint64_t bytes;
    std::string label;
    bool freed;
  };
  /// The mapping is closed from here on.
  void add(const Mapping& mapping, std::string label);
  /// Its owner is gone. The addresses stay closed and taken for a while, so that stale pointers are recognised.
  void retire(Mapping mapping);

  struct Place {
    uint8_t* base;
    const Region* region;  // null: no memory of the device
  };
  /// In a signal handler too.
  Place find(const uint8_t* address) const;

 private:
  // Each is an entry of the kernel's map of the process, of which there are 65530.
  static constexpr size_t kMaximumRetired = 1024;
  std::map<uint8_t*, Region> regions_;
  std::deque<Mapping> retired_;
};

/// PROT_* of whole pages. Async-signal-safe; false when the system refuses.
bool protect(uint8_t* begin, uint64_t bytes, int protection) noexcept;
/// The same, with zeros behind the pages in place of what was there.
bool empty(uint8_t* begin, uint64_t bytes, int protection) noexcept;

}  // namespace spillway::device::host
