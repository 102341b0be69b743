// Which operations an operation knows to be done before it starts: one count a lane (Fidge, Mattern 1988).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace spillway::device::host {

class VectorClock {
 public:
  uint64_t of(uint32_t lane) const { return lane < times_.size() ? times_[lane] : 0; }
  void advance(uint32_t lane) { advance_to(lane, of(lane) + 1); }
  void advance_to(uint32_t lane, uint64_t time) {
    if (lane >= times_.size()) times_.resize(lane + 1);
    times_[lane] = std::max(times_[lane], time);
  }
  void join(const VectorClock& other) {
    if (other.times_.size() > times_.size()) times_.resize(other.times_.size());
    for (size_t i = 0; i < other.times_.size(); ++i) times_[i] = std::max(times_[i], other.times_[i]);
  }

 private:
  std::vector<uint64_t> times_;
};

}  // namespace spillway::device::host
