#include "block_lease.hpp"

#include <utility>

namespace spillway::device {

BlockLease::BlockLease(Device& device, const DeviceAllocation& wanted)
    : device_(device),
      tag_(wanted.tag),
      allocation_(device.allocator().allocate(
          {wanted.bytes, wanted.tag, wanted.stream ? wanted.stream->id() : kNoStream, wanted.pool, wanted.settings})) {
  try {
    device.budget().use_block(bytes(), tag_);
  } catch (...) {
    device.allocator().free(allocation_, {});
    throw;
  }
}

void BlockLease::give_back() noexcept {
  if (!allocation_.block) return;
  const Allocation allocation = std::exchange(allocation_, {});
  device_.budget().free_block(allocation.wanted_bytes, tag_);
  device_.allocator().free(allocation, uses_.take());
}

}  // namespace spillway::device
