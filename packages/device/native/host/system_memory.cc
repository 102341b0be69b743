#include "system_memory.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace spillway::device::host {

static bool read_number(const char* path, uint64_t& out) {
  std::ifstream file(path);
  return static_cast<bool>(file >> out);  // "max" is no number: no limit
}

SystemMemory read_system_memory() {
  uint64_t total =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  uint64_t available = total;
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  uint64_t value;
  while (file >> key >> value) {
    if (key == "MemAvailable:") available = value << 10;
    std::getline(file, unit);
  }
  // In a container the kernel kills at the group's limit whatever the machine has left.
  uint64_t limit, used;
  if (read_number("/sys/fs/cgroup/memory.max", limit) && read_number("/sys/fs/cgroup/memory.current", used)) {
    total = std::min(total, limit);
    available = std::min(available, limit > used ? limit - used : 0);
  }
  return {total, available};
}

}  // namespace spillway::device::host
