// Where a device is in a machine whose memory is in several places: memory nearby is reached at the link's full rate.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace spillway::device {

/// Of a PCI device, as 0000:65:00.0; nothing on a machine that has one node or does not say. root: as of
/// read_memory_limits.
std::optional<int> numa_node_of(const std::string& root, std::string pci_address);
/// The processors of a node; none when it is unknown.
std::vector<int> cpus_of_node(const std::string& root, std::optional<int> node);

}  // namespace spillway::device
