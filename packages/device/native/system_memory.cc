#include "system_memory.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "budget.hpp"
#include "failure.hpp"

namespace spillway::device {

static bool read_number(const char* path, uint64_t& out) {
  std::ifstream file(path);
  return static_cast<bool>(file >> out);  // "max" is no number: no limit
}

// Memory of the group that the kernel takes back by itself: `used` counts what was read from files.
static uint64_t reclaimable_bytes() {
  std::ifstream file("/sys/fs/cgroup/memory.stat");
  std::string key;
  uint64_t value, sum = 0;
  while (file >> key >> value) {
    if (key == "active_file" || key == "inactive_file") sum += value;
  }
  return sum;
}

SystemMemory read_system_memory() {
  uint64_t total = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
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
    used -= std::min(used, reclaimable_bytes());
    available = std::min(available, limit > used ? limit - used : 0);
  }
  return {total, available};
}

void require_available_host_memory(uint64_t bytes) {
  SystemMemory system = read_system_memory();
  if (bytes <= system.available_bytes) return;
  spillway_error error = empty_error();
  error.status = SPILLWAY_STATUS_OUT_OF_MEMORY;
  error.requested_bytes = bytes;
  error.free_bytes = system.available_bytes;
  error.total_bytes = system.total_bytes;
  std::snprintf(error.call, sizeof error.call, "buffer_create");
  std::snprintf(error.message, sizeof error.message,
                "out of host memory: %s requested, %s available of %s. Close other programs, or use a smaller model",
                format_bytes(bytes).c_str(), format_bytes(system.available_bytes).c_str(),
                format_bytes(system.total_bytes).c_str());
  throw StatusError(error);
}

}  // namespace spillway::device
