// What is mapped where in a range of reserved addresses, and how much enqueued work uses it. The same rules for every
// device: memory maps whole, unmaps whole, and not while it is used. Any thread.
#pragma once

#include <functional>
#include <map>
#include <mutex>

#include "device.hpp"

namespace spillway::device {

class AddressMap {
 public:
  AddressMap(uint64_t bytes, uint64_t granularity) : bytes_(bytes), granularity_(granularity) {}

  uint64_t bytes() const { return bytes_; }
  /// Checks, then runs `map` while nobody else changes the range; remembers the memory when it does not throw.
  void map(uint64_t offset, PhysicalMemory& memory, const std::function<void()>& map);
  /// unmap: called for each memory, in order, once all is known to be well; may throw at the first only.
  void unmap(uint64_t offset, uint64_t bytes, const std::function<void(uint64_t offset, uint64_t bytes)>& unmap);
  /// Throws when a byte of it has no memory.
  void begin_use(uint64_t offset, uint64_t bytes);
  void end_use() noexcept;
  bool used() const;
  /// The parts of the range that have memory, in order.
  using Visit = std::function<void(PhysicalMemory& memory, uint64_t in_memory, uint64_t bytes, uint64_t in_part)>;
  void visit(uint64_t offset, uint64_t bytes, const Visit& visit) const;
  /// Runs `unmap(offset, bytes)` for all that is mapped: the range is going away.
  void clear(const std::function<void(uint64_t offset, uint64_t bytes)>& unmap) noexcept;
  /// For a buffer over part of the range.
  void check_part(uint64_t offset, uint64_t bytes) const;

 private:
  bool mapped_whole(uint64_t offset, uint64_t bytes) const;

  const uint64_t bytes_;
  const uint64_t granularity_;
  mutable std::mutex mutex_;
  std::map<uint64_t, Ref<PhysicalMemory>> pieces_;
  uint64_t uses_ = 0;
};

}  // namespace spillway::device
