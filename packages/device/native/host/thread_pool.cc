#include "thread_pool.hpp"

#include <algorithm>
#include <system_error>

#include "../failure.hpp"

namespace spillway::device::host {

ThreadPool::ThreadPool(uint32_t threads) {
  try {
    for (uint32_t i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  } catch (const std::system_error& failure) {
    // A thread destroyed while it runs would end the process.
    stop();
    fail_system("open", failure.code().value(), "the system gives no more threads; ask for fewer");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_pieces(Job& job) {
  for (;;) {
    uint64_t begin = job.next.fetch_add(job.grain, std::memory_order_relaxed);
    if (begin >= job.count) return;
    job.body(job.state, begin, std::min(begin + job.grain, job.count));
  }
}

void ThreadPool::parallel_for(uint32_t priority, uint64_t count, uint64_t grain, Body body, void* state) {
  if (count == 0) return;
  // A grain past the count would let `next` overflow when many workers add it.
  grain = std::clamp<uint64_t>(grain, 1, count);
  if (grain == count || workers_.empty()) {
    for (uint64_t begin = 0; begin < count; begin += grain) body(state, begin, std::min(begin + grain, count));
    return;
  }
  Job job{priority, count, grain, body, state};
  {
    std::lock_guard lock(mutex_);
    auto place = std::find_if(jobs_.begin(), jobs_.end(), [&](Job* other) { return other->priority < priority; });
    jobs_.insert(place, &job);
  }
  wake_.notify_all();
  run_pieces(job);
  std::unique_lock lock(mutex_);
  jobs_.remove(&job);
  left_.wait(lock, [&] { return job.helpers == 0; });
}

void ThreadPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    Job* job = jobs_.front();
    ++job->helpers;
    lock.unlock();
    run_pieces(*job);
    lock.lock();
    // No piece is left: nobody else need look at it.
    jobs_.remove(job);
    if (--job->helpers == 0) left_.notify_all();
  }
}

}  // namespace spillway::device::host
