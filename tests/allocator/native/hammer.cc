#include "hammer.hpp"

#include <algorithm>
#include <chrono>
#include <random>
#include <spillway/abi.hpp>
#include <thread>

namespace allocator_probe {
namespace {

using namespace spillway::device;

struct Held {
  Allocation allocation;
  StreamId stream;
};

/// Who has which bytes, and whose work may still use them. Blocks enter after they were allocated and leave before they
/// are freed, so two that overlap here were live together.
class Shadow {
 public:
  explicit Shadow(PlainStreams& streams) : streams_(streams) {}

  void enter(const Allocation& one, StreamId stream) {
    std::lock_guard lock(mutex_);
    const uint64_t end = one.address + one.bytes;
    const auto after = live_.lower_bound(one.address);
    if (after != live_.end() && after->first < end) ++wrong_;
    if (after != live_.begin() && std::prev(after)->second > one.address) ++wrong_;
    live_[one.address] = end;
    std::erase_if(work_, [&](const Work& work) {
      if (work.end <= one.address || work.begin >= end || work.stream == stream) return false;
      const bool done = streams_.completed(work.stream) >= work.position;
      if (!done) ++wrong_;
      return done;
    });
  }

  void leave(const Allocation& one, const Uses& uses) {
    std::lock_guard lock(mutex_);
    live_.erase(one.address);
    for (const Use& use : uses) work_.push_back({one.address, one.address + one.bytes, use.stream, use.position});
    std::erase_if(work_, [&](const Work& work) { return streams_.completed(work.stream) >= work.position; });
  }

  uint64_t wrong() const { return wrong_; }

 private:
  struct Work {
    uint64_t begin;
    uint64_t end;
    StreamId stream;
    uint64_t position;
  };
  PlainStreams& streams_;
  std::mutex mutex_;
  std::map<uint64_t, uint64_t> live_;
  std::vector<Work> work_;
  uint64_t wrong_ = 0;
};

/// Blocks that change hands between threads.
class Exchange {
 public:
  void put(Held held) {
    std::lock_guard lock(mutex_);
    held_.push_back(held);
  }
  bool take(Held& held) {
    std::lock_guard lock(mutex_);
    if (held_.empty()) return false;
    held = held_.back();
    held_.pop_back();
    return true;
  }

 private:
  std::mutex mutex_;
  std::vector<Held> held_;
};

double quantile(std::vector<double>& values, double part) {
  const auto at = values.begin() + static_cast<ptrdiff_t>(part * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace

uint64_t hammer(CachingAllocator& allocator, PlainStreams& streams, uint32_t threads, uint32_t rounds, uint32_t seed) {
  Shadow shadow(streams);
  Exchange exchange;
  std::vector<std::atomic<uint64_t>> positions(threads + 1);
  const auto work = [&](StreamId stream) {
    std::mt19937 random(seed + static_cast<uint32_t>(stream));
    const auto below = [&](uint32_t end) { return random() % end; };
    std::vector<Held> mine;
    const AllocatorSettings settings;
    const std::string tags[] = {"weights", "workspace"};
    const std::string pools[] = {"", "pool"};
    const auto free = [&](const Held& held) {
      Uses uses;
      for (const StreamId user : held.stream == stream ? std::vector{stream} : std::vector{stream, held.stream}) {
        const uint64_t position = ++positions[user];
        uses.push_back({user, position, streams.marker(user, position)});
      }
      shadow.leave(held.allocation, uses);
      allocator.free(held.allocation, std::move(uses));
    };
    for (uint32_t round = 0; round < rounds; ++round) {
      const uint64_t bytes = 1ull << (9 + below(15));
      try {
        const Allocation one =
            allocator.allocate({bytes + below(512), tags[below(2)], stream, pools[below(2)], settings});
        shadow.enter(one, stream);
        (below(4) == 0 ? exchange.put({one, stream}) : mine.push_back({one, stream}));
      } catch (const spillway::StatusError&) {
      }
      Held held;
      if (below(4) == 0 && exchange.take(held)) free(held);
      while (mine.size() > 8) {
        std::swap(mine[below(static_cast<uint32_t>(mine.size()))], mine.back());
        free(mine.back());
        mine.pop_back();
      }
      if (below(8) == 0) streams.complete(stream, positions[stream]);
      if (below(64) == 0) allocator.release_cached(pools[below(2)]);
      if (below(64) == 0) allocator.snapshot();
    }
    for (const Held& held : mine) free(held);
    Held held;
    while (exchange.take(held)) free(held);
  };
  std::vector<std::thread> running;
  for (StreamId stream = 1; stream <= threads; ++stream) running.emplace_back(work, stream);
  for (std::thread& thread : running) thread.join();
  Held held;
  while (exchange.take(held)) allocator.free(held.allocation, {});
  for (StreamId stream = 1; stream <= threads; ++stream) streams.complete(stream, positions[stream]);
  return shadow.wrong();
}

MeasuredCalls measure(CachingAllocator& allocator, PlainStreams& streams, uint32_t live, uint32_t rounds) {
  using Clock = std::chrono::steady_clock;
  constexpr StreamId kStream = 1;
  const AllocatorSettings settings;
  const std::string tag = "workspace";
  const std::string pool;
  std::mt19937 random(1);
  const auto allocate = [&] {
    const uint64_t bytes = 512ull << (random() % 14);
    return AllocationRequest{bytes, tag, kStream, pool, settings};
  };
  uint64_t position = 0;
  const auto uses = [&] {
    ++position;
    return Uses{{kStream, position, streams.marker(kStream, position)}};
  };
  std::vector<Allocation> held(live);
  for (Allocation& one : held) one = allocator.allocate(allocate());
  std::vector<double> allocating;
  std::vector<double> freeing;
  std::vector<double> nothing;
  const auto since = [](Clock::time_point start) {
    return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
  };
  for (uint32_t round = 0; round < rounds; ++round) {
    Allocation& one = held[random() % live];
    Uses done = uses();
    auto start = Clock::now();
    allocator.free(one, std::move(done));
    freeing.push_back(since(start));
    const AllocationRequest request = allocate();
    start = Clock::now();
    one = allocator.allocate(request);
    allocating.push_back(since(start));
    start = Clock::now();
    nothing.push_back(since(start));
  }
  for (const Allocation& one : held) allocator.free(one, {});
  const double clock = quantile(nothing, 0.5);
  const auto measured = [clock](std::vector<double>& times) {
    return Measured{quantile(times, 0.5) - clock, quantile(times, 0.99) - clock};
  };
  return {measured(allocating), measured(freeing)};
}

}  // namespace allocator_probe
