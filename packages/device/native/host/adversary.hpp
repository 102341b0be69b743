// Adversarial mode: the one thread that does the work of all streams, and no sooner than somebody waits for it. Which
// stream goes next is decided by ranks drawn from a seed and drawn anew now and then, as in probabilistic concurrency
// testing (Burckhardt et al. 2010): so one stream runs as far ahead of, or behind, the others as events allow, and a
// missing wait shows. A copy over the link is torn into parts with other streams' work in between.
//
// Only work enqueued before the wait takes part, so one seed and one program always give one order.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "work_queue.hpp"

namespace spillway::device::host {

class Adversary : public std::enable_shared_from_this<Adversary> {
 public:
  /// Its thread ends after stop().
  static std::shared_ptr<Adversary> start(uint64_t seed);
  void stop();

  std::shared_ptr<WorkQueue> create_queue(HostDevice& device, uint32_t priority);

 private:
  class Queue;
  struct Item {
    std::shared_ptr<const Operation> operation;
    uint64_t sequence;
    uint64_t done_bytes = 0;
  };
  struct Demand {
    std::shared_ptr<Queue> queue;
    uint64_t count;     // how many of the queue's operations must be done
    uint64_t sequence;  // nothing enqueued, and no queue made, later takes part
    Ref<HostDevice> device;
  };

  explicit Adversary(uint64_t seed) : seed_(seed), random_(seed), steps_between_changes_(uint64_t{2} << draw(4)) {}
  void work();
  void serve(std::unique_lock<std::mutex>& lock, const Demand& demand);
  void change_a_rank(uint64_t sequence);
  Queue* choose(uint64_t sequence);
  void step(std::unique_lock<std::mutex>& lock, HostDevice& device, Queue& queue);
  uint64_t draw(uint64_t below) { return random_() % below; }

  const uint64_t seed_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::mt19937_64 random_;  // of the thread alone: what other threads do in between must not change what it draws
  // Some bugs need streams to alternate, others one that runs far ahead.
  const uint64_t steps_between_changes_;
  std::vector<std::shared_ptr<Queue>> queues_;  // in the order they were made
  std::deque<Demand> demands_;
  uint64_t sequence_ = 0;
  uint64_t made_ = 0;
  bool stopped_ = false;
};

}  // namespace spillway::device::host
