#include "host_region.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "../budget.hpp"
#include "../failure.hpp"
#include "huge_pages.hpp"

namespace spillway::device {
namespace {

// What a thread does between looks at whether it shall stop: some milliseconds.
constexpr uint64_t kPieceBytes = 16 << 20;
// More threads do not pay: 8 reach four fifths of what 16 do, which is as fast as the driver registers.
constexpr unsigned kMostThreads = 16;

uint64_t page_bytes() {
  static const auto bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

uint64_t round_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

unsigned usable_cpus() {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  return static_cast<unsigned>(std::max(1, CPU_COUNT(&mask)));
}

// Only a wish: where it cannot be, the thread runs anywhere.
void stay_on(const std::vector<int>& cpus) {
  if (cpus.empty()) return;
  cpu_set_t allowed, wanted;
  CPU_ZERO(&wanted);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  for (int cpu : cpus) {
    if (cpu < CPU_SETSIZE && CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &wanted);
  }
  if (CPU_COUNT(&wanted) > 0) sched_setaffinity(0, sizeof wanted, &wanted);
}

// Addresses or overcommitted memory have a limit of their own, which no file tells.
[[noreturn]] void refuse(uint64_t bytes, int code) {
  spillway_error error = empty_error();
  error.status = SPILLWAY_STATUS_OUT_OF_MEMORY;
  error.native_code = code;
  error.requested_bytes = bytes;
  std::snprintf(error.call, sizeof error.call, "mmap");
  std::snprintf(error.message, sizeof error.message,
                "the system gives no %s of host memory in one piece: %s. ulimit -v and vm.overcommit_memory limit it; "
                "or make several smaller buffers, with allocateHostParts",
                format_bytes(bytes).c_str(), std::strerror(code));
  throw StatusError(error);
}

}  // namespace

unsigned touch_threads(uint64_t bytes) {
  const uint64_t pieces = std::max<uint64_t>(1, bytes / (2 * kPieceBytes));
  return static_cast<unsigned>(std::min<uint64_t>({pieces, usable_cpus(), kMostThreads}));
}

HostRegion::HostRegion(uint64_t bytes, int advice) : data_(nullptr), bytes_(round_up(bytes, page_bytes())) {
  const uint64_t alignment = bytes_ < kHugePageBytes ? page_bytes() : kHugePageBytes;
  const uint64_t mapped = bytes_ + alignment - page_bytes();
  void* address = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) refuse(bytes_, errno);
  const auto begin = reinterpret_cast<uint64_t>(address);
  const uint64_t before = round_up(begin, alignment) - begin;
  data_ = static_cast<uint8_t*>(address) + before;
  if (before > 0) munmap(address, before);
  if (const uint64_t after = mapped - before - bytes_; after > 0) munmap(data_ + bytes_, after);
  // A fork would have to copy memory that a device writes to: children do not get it.
  madvise(data_, bytes_, MADV_DONTFORK);
  if (advice >= 0) madvise(data_, bytes_, advice);
}

HostRegion HostRegion::for_buffer(uint64_t bytes) {
  // A probe costs more than it could bring to memory that is touched in less.
  const HugePages* pages = bytes >= kPieceBytes ? &huge_pages() : known_huge_pages();
  if (pages == nullptr || bytes < kHugePageBytes) return HostRegion(bytes);
  return HostRegion(bytes, pages->used ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

HostRegion::HostRegion(HostRegion&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}

HostRegion::~HostRegion() {
  if (data_) munmap(data_, bytes_);
}

// Plain writes. While one thread populates (MADV_POPULATE_WRITE) it holds the lock of the address space, which starting
// another thread waits for: the last of 16 began after 0.22 s, when 8 GiB should have been done (0.14 s with writes).
// Not for ThreadSanitizer, which would touch twice as much of its own to remember it.
__attribute__((no_sanitize("thread"))) void HostRegion::touch_here(uint64_t offset, uint64_t bytes) {
  // The memory is fresh: what is written is what is there.
  volatile uint8_t* data = data_ + offset;
  for (uint64_t at = 0, page = page_bytes(); at < bytes; at += page) data[at] = 0;
}

void HostRegion::touch(HostAllocation& allocation, const std::vector<int>& cpus) {
  std::atomic<uint64_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::exception_ptr failure;
  const unsigned count = touch_threads(bytes_);
  const auto work = [&] {
    try {
      while (!stop.load(std::memory_order_relaxed)) {
        const uint64_t offset = next.fetch_add(kPieceBytes);
        if (offset >= bytes_) return;
        allocation.check();
        const uint64_t piece = std::min(kPieceBytes, bytes_ - offset);
        touch_here(offset, piece);
        allocation.took(piece);
      }
    } catch (...) {
      stop.store(true);
      std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  // One thread is the caller; near the device only where threads are started anyway, since the caller's place is its
  // own.
  if (count > 1) {
    threads.reserve(count);
    try {
      for (unsigned i = 0; i < count; ++i) {
        threads.emplace_back([&] {
          stay_on(cpus);
          work();
        });
      }
    } catch (const std::system_error&) {
      // Fewer, then.
    }
  }
  if (threads.empty()) work();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace spillway::device
