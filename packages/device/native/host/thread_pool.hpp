// The threads that host twins share. One pool a device; several streams may use it at once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

namespace spillway::device::host {

class ThreadPool {
 public:
  using Body = void (*)(void* state, uint64_t begin, uint64_t end);

  /// threads: how many may run bodies at once, the calling one included.
  explicit ThreadPool(uint32_t threads);
  ~ThreadPool();

  uint32_t threads() const { return static_cast<uint32_t>(workers_.size()) + 1; }
  /// Runs body over [0, count) in pieces of `grain`; returns when all are done. Work of a higher priority goes first.
  void parallel_for(uint32_t priority, uint64_t count, uint64_t grain, Body body, void* state);

 private:
  struct Job {
    uint32_t priority;
    uint64_t count;
    uint64_t grain;
    Body body;
    void* state;
    std::atomic<uint64_t> next{0};
    uint32_t helpers = 0;  // workers inside; guarded by mutex_
  };
  static void run_pieces(Job& job);
  void work();
  void stop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable left_;
  std::list<Job*> jobs_;  // with pieces left, highest priority first
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace spillway::device::host
