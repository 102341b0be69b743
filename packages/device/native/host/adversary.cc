#include "adversary.hpp"

#include <algorithm>
#include <system_error>
#include <thread>

#include "../failure.hpp"
#include "host_device.hpp"

namespace spillway::device::host {

class Adversary::Queue final : public WorkQueue {
 public:
  Queue(std::shared_ptr<Adversary> adversary, HostDevice& device, uint32_t priority)
      : WorkQueue(device), priority_(priority), adversary_(std::move(adversary)), device_(&device) {}

  bool push_unless_ended(std::shared_ptr<const Operation> operation) override {
    std::lock_guard lock(adversary_->mutex_);
    if (ended_) return false;
    insert_locked(operation);
    return true;
  }
  void demand() override {
    std::lock_guard lock(adversary_->mutex_);
    demand_locked();
  }
  // Nobody is left who could wait for it.
  void close() override {
    std::lock_guard lock(adversary_->mutex_);
    closed_ = true;
    demand_locked();
  }

 private:
  friend class Adversary;
  uint64_t insert(const std::shared_ptr<const Operation>& operation) override {
    std::lock_guard lock(adversary_->mutex_);
    return insert_locked(operation);
  }
  uint64_t insert_locked(const std::shared_ptr<const Operation>& operation) {
    items_.push_back({operation, ++adversary_->sequence_});
    return ++pushed_;
  }
  void demand_locked() {
    // device_ is alive: whoever calls has a handle of it. The demand keeps it, so that what is put off does not.
    adversary_->demands_.push_back({std::static_pointer_cast<Queue>(shared_from_this()), pushed_, adversary_->sequence_,
                                    Ref<HostDevice>(device_)});
    adversary_->wake_.notify_one();
  }

  const uint32_t priority_;
  const std::shared_ptr<Adversary> adversary_;
  HostDevice* const device_;
  std::deque<Item> items_;
  uint64_t pushed_ = 0;
  uint64_t done_ = 0;
  uint64_t made_ = 0;  // the sequence number when it was
  uint64_t rank_ = 0;
  bool closed_ = false;
  bool ended_ = false;
};

std::shared_ptr<Adversary> Adversary::start(uint64_t seed) {
  std::shared_ptr<Adversary> adversary(new Adversary(seed));
  try {
    // Detached: it may itself end the last handle of the device, and with it call stop().
    std::thread([adversary] { adversary->work(); }).detach();
  } catch (const std::system_error& failure) {
    fail_system("open", failure.code().value(), "the system gives no more threads");
  }
  return adversary;
}

void Adversary::stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  wake_.notify_one();
}

std::shared_ptr<WorkQueue> Adversary::create_queue(HostDevice& device, uint32_t priority) {
  auto queue = std::make_shared<Queue>(shared_from_this(), device, priority);
  std::lock_guard lock(mutex_);
  queue->made_ = ++sequence_;
  queue->rank_ = std::mt19937_64(seed_ + 0x9e3779b97f4a7c15 * ++made_)();
  queues_.push_back(queue);
  return queue;
}

void Adversary::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopped_ || !demands_.empty(); });
    if (demands_.empty()) {
      queues_.clear();
      return;
    }
    Demand demand = std::move(demands_.front());
    demands_.pop_front();
    serve(lock, demand);
    lock.unlock();
    // Outside the lock: this may end the device.
    demand = {};
    lock.lock();
  }
}

void Adversary::serve(std::unique_lock<std::mutex>& lock, const Demand& demand) {
  while (demand.queue->done_ < demand.count) {
    if (draw(steps_between_changes_) == 0) change_a_rank(demand.sequence);
    step(lock, *demand.device, *choose(demand.sequence));
  }
  if (demand.queue->closed_ && demand.queue->items_.empty() && !demand.queue->ended_) {
    demand.queue->ended_ = true;
    std::erase(queues_, demand.queue);
  }
}

void Adversary::change_a_rank(uint64_t sequence) {
  const auto known = std::find_if(queues_.begin(), queues_.end(),
                                  [&](const std::shared_ptr<Queue>& queue) { return queue->made_ > sequence; });
  if (known != queues_.begin()) {
    queues_[draw(static_cast<uint64_t>(known - queues_.begin()))]->rank_ = draw(UINT64_MAX);
  }
}

// There always is one: the oldest operation that is not done waits for older ones at most.
Adversary::Queue* Adversary::choose(uint64_t sequence) {
  Queue* chosen = nullptr;
  for (const std::shared_ptr<Queue>& queue : queues_) {
    if (queue->items_.empty() || queue->items_.front().sequence > sequence) continue;
    if (!queue->items_.front().operation->ready()) continue;
    if (!chosen || queue->rank_ > chosen->rank_) chosen = queue.get();
  }
  return chosen;
}

void Adversary::step(std::unique_lock<std::mutex>& lock, HostDevice& device, Queue& queue) {
  Item& item = queue.items_.front();
  const Operation& operation = *item.operation;
  const uint64_t bytes = operation.divisible_bytes();
  if (bytes > 0) {
    // In one part, or in up to four of any size.
    const uint64_t rest = bytes - item.done_bytes;
    const uint64_t part = draw(4) == 0 ? rest : std::max<uint64_t>(1, draw(rest) / 2 + rest / 4);
    const uint64_t begin = item.done_bytes;
    item.done_bytes += std::min(part, rest);
    lock.unlock();
    operation.run_part(device, queue.priority_, begin, begin + std::min(part, rest));
    lock.lock();
    // A torn copy is where the others get their chance.
    queue.rank_ = draw(UINT64_MAX);
    if (item.done_bytes < bytes) return;
  } else {
    lock.unlock();
    operation.run(device, queue.priority_);
    lock.lock();
  }
  std::shared_ptr<const Operation> done = std::move(item.operation);
  queue.items_.pop_front();
  ++queue.done_;
  lock.unlock();
  finish(*done);
  done.reset();
  lock.lock();
  queue.reach(queue.done_);
}

}  // namespace spillway::device::host
