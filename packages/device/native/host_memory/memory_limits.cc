#include "memory_limits.hpp"

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <map>
#include <sstream>

namespace spillway::device {
namespace {

// Nothing for "max", for what is no number, and for no file.
std::optional<uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// Of lines such as "MemAvailable:  123 kB" and "inactive_file 123".
std::map<std::string, uint64_t> read_table(const std::string& path) {
  std::ifstream file(path);
  std::map<std::string, uint64_t> table;
  std::string line, key;
  while (std::getline(file, line)) {
    uint64_t value = 0;
    if (std::istringstream(line) >> key >> value) table[key] = value;
  }
  return table;
}

uint64_t value_of(const std::map<std::string, uint64_t>& table, const char* key) {
  auto entry = table.find(key);
  return entry == table.end() ? 0 : entry->second;
}

uint64_t rest(uint64_t limit, uint64_t used) { return limit - std::min(limit, used); }

struct GroupFiles {
  std::initializer_list<const char*> limits;
  const char* usage;
  // Of memory.stat: memory of the group that the kernel takes back by itself; usage counts what was read from files.
  std::initializer_list<const char*> reclaimable;
  const char* swap_limit;
  const char* swap_usage;
};

// Past memory.high the kernel does not kill but stops the process for longer and longer: it ends nowhere either.
const GroupFiles kVersion2 = {{"memory.max", "memory.high"},
                              "memory.current",
                              {"active_file", "inactive_file"},
                              "memory.swap.max",
                              "memory.swap.current"};
// Swap is counted together with memory there: none is assumed.
const GroupFiles kVersion1 = {
    {"memory.limit_in_bytes"}, "memory.usage_in_bytes", {"total_active_file", "total_inactive_file"}, "", ""};
// How version 1 writes that there is no limit: the largest number of pages, in bytes.
constexpr uint64_t kUnlimited = uint64_t{1} << 60;

// The limits of the group at `path` below `mount` and of all above it. In a container the path may be the one outside,
// of which only the mount itself is there.
void read_groups(const std::string& mount, std::string path, const GroupFiles& files, uint64_t free_swap,
                 std::vector<MemoryLimit>& limits) {
  while (true) {
    const std::string folder = mount + path + "/";
    const std::optional<uint64_t> usage = read_number(folder + files.usage);
    for (const char* name : files.limits) {
      const std::optional<uint64_t> limit = read_number(folder + name);
      if (!limit || !usage || *limit >= kUnlimited) continue;
      const auto stat = read_table(folder + "memory.stat");
      uint64_t reclaimable = 0;
      for (const char* key : files.reclaimable) reclaimable += value_of(stat, key);
      uint64_t swap = free_swap;
      if (const auto most = read_number(folder + files.swap_limit)) {
        swap = std::min(swap, rest(*most, read_number(folder + files.swap_usage).value_or(0)));
      }
      limits.push_back({std::string(name) + (path.empty() ? "" : " of " + path), *limit,
                        rest(*limit, rest(*usage, reclaimable)), *files.swap_limit ? swap : 0,
                        "give the container or service a higher memory limit (docker run --memory, MemoryMax= of "
                        "systemd, resources.limits.memory of Kubernetes), or use a smaller model"});
    }
    if (path.empty()) return;
    path.resize(path.rfind('/'));
  }
}

}  // namespace

std::vector<MemoryLimit> read_memory_limits(const std::string& root) {
  std::vector<MemoryLimit> limits;
  const auto machine = read_table(root + "/proc/meminfo");
  const uint64_t free_swap = value_of(machine, "SwapFree:") << 10;
  if (machine.contains("MemAvailable:")) {
    limits.push_back({"MemAvailable", value_of(machine, "MemTotal:") << 10, value_of(machine, "MemAvailable:") << 10,
                      free_swap, "close other programs, or use a smaller model"});
  }
  const std::string mount = root + "/sys/fs/cgroup";
  std::ifstream groups(root + "/proc/self/cgroup");
  // number:controllers:/path
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1) + ",";
    std::string path = line.substr(second + 1);
    if (path.empty() || path.back() == '/') path.resize(path.empty() ? 0 : path.size() - 1);
    if (!path.empty() && path.front() != '/') continue;
    if (controllers == ",") read_groups(mount, path, kVersion2, free_swap, limits);
    if (controllers.starts_with("memory,") || controllers.find(",memory,") != std::string::npos) {
      read_groups(mount + "/memory", path, kVersion1, free_swap, limits);
    }
  }
  return limits;
}

std::optional<uint64_t> read_lockable_bytes(const std::string& root) {
  std::ifstream file(root + "/proc/self/limits");
  const std::string name = "Max locked memory";
  for (std::string line; std::getline(file, line);) {
    uint64_t soft = 0;
    if (line.starts_with(name) && std::istringstream(line.substr(name.size())) >> soft) return soft;
  }
  return std::nullopt;
}

}  // namespace spillway::device
