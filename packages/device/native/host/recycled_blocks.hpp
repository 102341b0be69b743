// Adversarial mode's freed device memory: poisoned, and handed out again at once at the same address, so that who still
// uses it reads poison or somebody else's bytes.
#pragma once

#include <cstring>
#include <list>
#include <mutex>
#include <optional>

#include "buffer.hpp"

namespace spillway::device::host {

class RecycledBlocks {
 public:
  void give(Block block) {
    std::memset(block.mapping.data(), kFreshPoison, block.mapping.bytes());
    std::lock_guard lock(mutex_);
    blocks_.push_front(std::move(block));
    if (blocks_.size() > kMaximum) blocks_.pop_back();
  }
  /// The block of this size freed last.
  std::optional<Block> take(uint64_t bytes) {
    std::lock_guard lock(mutex_);
    for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
      if (block->mapping.bytes() != bytes) continue;
      std::optional<Block> taken(std::move(*block));
      blocks_.erase(block);
      return taken;
    }
    return std::nullopt;
  }

 private:
  // They hold real memory that no budget counts.
  static constexpr size_t kMaximum = 32;
  std::mutex mutex_;
  std::list<Block> blocks_;
};

}  // namespace spillway::device::host
