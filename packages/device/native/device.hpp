// What the ABI table asks of a device, whichever it is. Implementations: host/ (and a GPU's, beside it).
// All methods: any thread; they throw StatusError.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "allocator/allocator_settings.hpp"
#include "allocator/marker.hpp"
#include "budget.hpp"
#include "counters.hpp"
#include "host_memory/host_allocation.hpp"
#include "object.hpp"

namespace spillway::device {

class Stream;
class Event;
class Timestamp;
class Buffer;
class Graph;
class AddressRange;
class PhysicalMemory;
class CachingAllocator;

struct DeviceAllocation {
  uint64_t bytes;
  const std::string& tag;
  /// Whose work uses it first, and in whose order it may have memory that is still in use; null: nobody's, at once.
  Stream* stream;
  /// By name; empty: in none.
  const std::string& pool;
  const AllocatorSettings& settings;
};

/// See Stream::begin_host_wait. Empty: nothing to do.
using HostWait = std::function<void()>;

class Device : public Object {
 public:
  Device(uint64_t limit_bytes);

  Budget& budget() { return budget_; }
  Counters& counters() { return counters_; }

  virtual std::string name() const = 0;
  virtual Stream* create_stream(uint32_t priority) = 0;
  virtual Event* create_event() = 0;
  virtual Timestamp* create_timestamp() = 0;
  virtual Buffer* create_device_buffer(const DeviceAllocation& allocation) = 0;
  /// Host memory of what `allocation` has reserved. Takes as long as the system takes.
  virtual Buffer* create_host_buffer(uint32_t storage, uint64_t bytes, HostAllocation& allocation) = 0;
  /// Device memory in blocks. Of the device's own making, since a segment is what it is on one device.
  virtual CachingAllocator& allocator() = 0;
  /// Of whoever has none of their own: native code.
  const AllocatorSettings& default_settings() const { return default_settings_; }
  /// Before the device is used.
  void set_default_settings(const AllocatorSettings& settings) { default_settings_ = settings; }
  /// Never given twice.
  StreamId next_stream_id() { return ++stream_ids_; }
  /// Where host memory is near the device, on a machine where that makes a difference.
  virtual std::optional<int> numa_node() const { return std::nullopt; }
  /// What an allocation could get now: what the budget leaves, and no more than others leave free.
  virtual uint64_t available_bytes() = 0;
  /// Calls back once everything enqueued on any stream so far is done; from then on new work is refused.
  virtual void close(std::function<void()> done) = 0;

  virtual uint64_t virtual_memory_granularity() const = 0;
  virtual AddressRange* reserve(uint64_t bytes) = 0;
  virtual PhysicalMemory* create_physical(uint64_t bytes, const std::string& tag) = 0;

  std::array<std::atomic<int64_t>, SPILLWAY_KIND_COUNT> live_objects{};

 private:
  AllocatorSettings default_settings_;
  std::atomic<StreamId> stream_ids_{kNoStream};
  Budget budget_;
  Counters counters_;
};

class Buffer : public Object {
 public:
  using Object::Object;
  /// Before the host reads or writes host memory (mode: SPILLWAY_ACCESS_*). Keep what it returns while it does.
  virtual std::unique_lock<std::mutex> begin_host_access(uint64_t offset, uint64_t bytes, uint32_t mode) = 0;
  virtual spillway_buffer_info info() const = 0;
};

class Event : public Object {
 public:
  using Object::Object;
};

class Timestamp : public Object {
 public:
  using Object::Object;
  /// Negative when this was reached first; none while one of the two is not reached. Both are of one device.
  virtual std::optional<double> milliseconds_since(Timestamp& earlier) = 0;
};

/// Of a stream: launches, enqueued so far, of graphs that hold work of it.
using ReplayCount = std::shared_ptr<std::atomic<uint64_t>>;

class Graph : public Object {
 public:
  using Object::Object;
  virtual uint32_t node_count() const = 0;
  /// Was launched once more.
  void count_replay() const {
    for (const ReplayCount& count : replays_) count->fetch_add(1, std::memory_order_relaxed);
  }

 protected:
  /// Of the streams whose work it holds.
  std::vector<ReplayCount> replays_;
};

/// The buffers are of the stream's device.
struct Copy {
  Buffer* to;
  uint64_t to_offset;
  Buffer* from;
  uint64_t from_offset;
  uint64_t bytes;
};

class Stream : public Object {
 public:
  using Object::Object;
  virtual StreamId id() const = 0;
  virtual uint32_t priority() const = 0;
  virtual bool capturing() const = 0;
  virtual void synchronize() = 0;
  /// Before a wait for everything enqueued so far. To be called, if it is anything, when the waiting host goes on: what
  /// it does from then on is known to come after.
  virtual HostWait begin_host_wait() = 0;
  /// Calls back when everything enqueued so far is done, or cannot be: the device is lost.
  virtual void notify(std::function<void(spillway_status)> done) = 0;
  /// external, in a capture: a record at every replay, that what is no part of the capture waits for.
  virtual void record(Event& event, bool external) = 0;
  virtual void record(Timestamp& timestamp) = 0;
  virtual void wait(Event& event, bool external) = 0;
  /// All of them or, when one is refused, none.
  virtual void copy(const std::vector<Copy>& copies) = 0;
  virtual void fill(Buffer& to, uint64_t offset, uint64_t bytes, uint8_t value) = 0;
  virtual void launch(const spillway_launch& launch) = 0;
  virtual void begin_capture() = 0;
  virtual Graph* end_capture() = 0;
  virtual void replay(Graph& graph) = 0;
  const ReplayCount& replays() const { return replays_; }

 private:
  const ReplayCount replays_ = std::make_shared<std::atomic<uint64_t>>(0);
};

class PhysicalMemory : public Object {
 public:
  using Object::Object;
  virtual uint64_t bytes() const = 0;
};

class AddressRange : public Object {
 public:
  using Object::Object;
  virtual uint64_t bytes() const = 0;
  virtual void map(uint64_t offset, PhysicalMemory& memory) = 0;
  virtual void unmap(uint64_t offset, uint64_t bytes) = 0;
  virtual Buffer* create_buffer(uint64_t offset, uint64_t bytes) = 0;
};

}  // namespace spillway::device
