#include "numa_node.hpp"

#include <cctype>
#include <fstream>
#include <sstream>

namespace spillway::device {

std::optional<int> numa_node_of(const std::string& root, std::string pci_address) {
  for (char& c : pci_address) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  std::ifstream file(root + "/sys/bus/pci/devices/" + pci_address + "/numa_node");
  int node = -1;
  if (file >> node && node >= 0) return node;
  return std::nullopt;
}

std::vector<int> cpus_of_node(const std::string& root, std::optional<int> node) {
  std::vector<int> cpus;
  if (!node) return cpus;
  // 0-3,8,10-11
  std::ifstream file(root + "/sys/devices/system/node/node" + std::to_string(*node) + "/cpulist");
  for (std::string part; std::getline(file, part, ',');) {
    std::istringstream text(part);
    int first = 0;
    if (!(text >> first)) return {};
    int last = first;
    char dash = 0;
    if (text >> dash && !(dash == '-' && text >> last)) return {};
    if (first < 0 || last < first || last - first > 65536) return {};
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace spillway::device
