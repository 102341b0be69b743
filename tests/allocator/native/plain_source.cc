#include "plain_source.hpp"

#include <algorithm>
#include <failure.hpp>

namespace allocator_probe {

using spillway::device::fail;

void PlainSource::enter() {
  if (++calls_ != fail_at_) return;
  if (lost_) fail(SPILLWAY_STATUS_DEVICE_LOST, "plain_source", "the device was lost, as the test wants it");
  fail(SPILLWAY_STATUS_OUT_OF_MEMORY, "plain_source", "out of memory, as the test wants it");
}

uint64_t PlainSource::take_addresses(uint64_t bytes) {
  const uint64_t address = next_address_;
  next_address_ += (bytes / (1ull << 21) + 2) << 21;  // never touching the one before
  return address;
}

void PlainSource::charge(uint64_t bytes) {
  if (bytes > limit_ - used_) fail(SPILLWAY_STATUS_OUT_OF_MEMORY, "plain_source", "more than the limit");
  used_ += bytes;
  peak_ = std::max(peak_, used_);
}

void PlainSource::add(SourceEvent event) noexcept {
  if (keep_events_) events_.push_back(event);
}

uint64_t PlainSource::create(uint64_t bytes, const std::string&) {
  enter();
  charge(bytes);
  const uint64_t address = take_addresses(bytes);
  add({SourceEvent::kCreate, address, bytes});
  return address;
}

void PlainSource::destroy(uint64_t address, uint64_t bytes, const std::string&) noexcept {
  used_ -= bytes;
  add({SourceEvent::kDestroy, address, bytes});
}

uint64_t PlainSource::reserve(uint64_t bytes) {
  enter();
  const uint64_t address = take_addresses(bytes);
  add({SourceEvent::kReserve, address, bytes});
  return address;
}

void PlainSource::unreserve(uint64_t address, uint64_t bytes) noexcept {
  add({SourceEvent::kUnreserve, address, bytes});
}

void PlainSource::map(uint64_t address, uint64_t bytes) {
  enter();
  charge(bytes);
  add({SourceEvent::kMap, address, bytes});
}

void PlainSource::unmap(uint64_t address, uint64_t bytes) noexcept {
  used_ -= bytes;
  add({SourceEvent::kUnmap, address, bytes});
}

static void raise(std::atomic<uint64_t>& progress, uint64_t position) {
  uint64_t now = progress.load();
  while (now < position && !progress.compare_exchange_weak(now, position)) {
  }
}

std::shared_ptr<PlainStreams::Progress> PlainStreams::progress(StreamId stream) {
  std::lock_guard lock(mutex_);
  auto& progress = progress_[stream];
  if (!progress) progress = std::make_shared<Progress>(0);
  return progress;
}

std::shared_ptr<Marker> PlainStreams::marker(StreamId stream, uint64_t position) {
  struct PlainMarker final : Marker {
    PlainMarker(std::shared_ptr<Progress> of, uint64_t at) : progress(std::move(of)), position(at) {}
    bool done() noexcept override { return progress->load() >= position; }
    // Whoever waits makes the work happen, as with a device that puts it off until then.
    void wait() override { raise(*progress, position); }
    const std::shared_ptr<Progress> progress;
    const uint64_t position;
  };
  return std::make_shared<PlainMarker>(progress(stream), position);
}

void PlainStreams::complete(StreamId stream, uint64_t position) { raise(*progress(stream), position); }

uint64_t PlainStreams::completed(StreamId stream) { return progress(stream)->load(); }

}  // namespace allocator_probe
