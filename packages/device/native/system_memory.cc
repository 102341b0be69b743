#include "system_memory.hpp"

#include <unistd.h>

#include <algorithm>

#include "host_memory/host_memory_account.hpp"

namespace spillway::device {

SystemMemory read_system_memory() {
  const HostMemoryAccount& account = HostMemoryAccount::of_process();
  // Before the files: what is touched in between is counted twice for a moment, never not at all.
  const uint64_t reserved = account.reserved_bytes();
  const uint64_t machine =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  SystemMemory result{machine, machine};
  // In a container the kernel kills at the group's limit whatever the machine has left.
  for (const MemoryLimit& limit : read_memory_limits(account.root())) {
    result.total_bytes = std::min(result.total_bytes, limit.limit_bytes);
    result.available_bytes = std::min(result.available_bytes, limit.available_bytes);
  }
  result.available_bytes -= std::min(result.available_bytes, reserved);
  return result;
}

}  // namespace spillway::device
