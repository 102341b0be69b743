#include "ring.hpp"

#include <string>
#include <utility>

namespace spillway::prefetch {
namespace {

/// By element, whether it has its slot for itself, and is copied once, or shares it.
std::vector<bool> sharing(size_t elements, size_t slots) {
  std::vector<bool> shares(elements);
  for (size_t i = 0; i < elements; ++i) shares[i] = i >= slots || i + slots < elements;
  return shares;
}

}  // namespace

Ring::Ring(const spillway_api* api, spillway_stream* copy_stream, const std::vector<RingElement>& elements,
           const std::vector<spillway_buffer*>& slots)
    : api_(api),
      copy_stream_(Reference<spillway_stream>::retain(api, copy_stream)),
      device_(api->device_of(reinterpret_cast<spillway_object*>(copy_stream))),
      graphs_(static_cast<const spillway_graph_api*>(
          api->extension(device_, SPILLWAY_EXTENSION_GRAPH, sizeof(spillway_graph_api)))),
      shares_slot_(sharing(elements.size(), slots.size())),
      timer_(api, device_, shares_slot_) {
  const size_t n = elements.size();
  if (slots.empty() || slots.size() > n || n >= kNoElement) {
    throw StatusError(SPILLWAY_STATUS_INVALID_ARGUMENT, "ring_create",
                      "a ring of " + std::to_string(n) + " elements cannot have " + std::to_string(slots.size()) +
                          " slots: it needs at least 1 and at most as many as elements");
  }
  for (spillway_buffer* buffer : slots) {
    slots_.push_back({Reference<spillway_buffer>::retain(api, buffer), {make_event()}, {make_event()}});
  }
  for (size_t i = 0; i < n; ++i) {
    const uint64_t bytes = elements[i].bytes;
    const spillway_buffer_info slab = describe(api, elements[i].slab);
    const spillway_buffer_info slot = describe(api, slots[i % slots.size()]);
    if (slab.storage == SPILLWAY_STORAGE_DEVICE || slot.storage != SPILLWAY_STORAGE_DEVICE || bytes > slab.bytes ||
        bytes > slot.bytes) {
      throw StatusError(SPILLWAY_STATUS_INVALID_ARGUMENT, "ring_create",
                        "the " + std::to_string(bytes) + " bytes of element " + std::to_string(i) +
                            " must lie in a host slab and fit into a device slot; the slab has " +
                            std::to_string(slab.bytes) + ", the slot " + std::to_string(slot.bytes));
    }
    // An element that has its slot for itself is copied once, before any capture.
    if (shares_slot_[i] && slab.storage == SPILLWAY_STORAGE_PAGEABLE) copies_can_be_captured_ = false;
    elements_.push_back({Reference<spillway_buffer>::retain(api, elements[i].slab), bytes});
  }
  element_counters_.resize(n);
  eager_fork_ = make_event();
  captured_fork_ = make_event();
  join_ = make_event();
}

Ring::Event Ring::make_event() const {
  spillway_event* event = nullptr;
  check(api_->event_create, device_, &event);
  return Event::adopt(api_, event);
}

void Ring::check_element(const char* call, uint32_t element) const {
  if (!open_) {
    throw StatusError(SPILLWAY_STATUS_INVALID_ARGUMENT, call, "there is no open forward; begin one first");
  }
  if (element >= elements_.size()) {
    throw StatusError(
        SPILLWAY_STATUS_INVALID_ARGUMENT, call,
        "the ring has " + std::to_string(elements_.size()) + " elements, and no element " + std::to_string(element));
  }
}

void Ring::check_same_device(const char* call, spillway_stream* stream) const {
  if (api_->device_of(reinterpret_cast<spillway_object*>(stream)) == device_) return;
  throw StatusError(SPILLWAY_STATUS_WRONG_DEVICE, call,
                    "the stream belongs to another device than the offloaded weights; use a stream of their device");
}

void Ring::check_capture_unchanged(const char* call) const {
  if (is_capturing(stream_.get()) == capturing_) return;
  throw StatusError(SPILLWAY_STATUS_CAPTURE, call,
                    "a capture began or ended within a forward; begin it before beginForward() and end it after end()");
}

// A replay begins and ends with first elements in the slots, as a forward does, but not with what is there within one:
// neither has read what it should. What end() makes of the slots is right all the same.
void Ring::check_not_replayed(const char* call) {
  if (capturing_ || replays() == replays_) return;
  replays_ = replays();
  throw StatusError(
      SPILLWAY_STATUS_CAPTURE, call,
      "a graph that holds a forward was launched while another forward was open, and what either has read "
      "is not known; launch it between forwards: end one first, and begin another for the layers behind it");
}

void Ring::start(spillway_stream* stream) {
  check_same_device("ring_start", stream);
  if (is_capturing(stream)) {
    throw StatusError(SPILLWAY_STATUS_CAPTURE, "ring_start",
                      "the compute stream is being captured; call postInit() before the capture begins");
  }
  stream_ = Reference<spillway_stream>::retain(api_, stream);
  earlier_.push_back({Reference<spillway_stream>::retain(api_, stream), make_event(), make_event()});
  restore_first_elements();
}

bool Ring::begin(spillway_stream* stream) {
  if (open_) {
    throw StatusError(SPILLWAY_STATUS_INVALID_ARGUMENT, "ring_begin", "a forward is open already; end it first");
  }
  check_same_device("ring_begin", stream);
  const bool capturing = is_capturing(stream);
  if (capturing) begin_captured_account();
  order_after_earlier_forwards(stream, capturing);
  marks_ = timer_.begin(capturing);
  stream_ = Reference<spillway_stream>::retain(api_, stream);
  capturing_ = capturing;
  copy_stream_joined_ = false;
  replays_ = replays();
  open_ = true;
  ++counters_.forwards;
  return marks_ != nullptr;
}

void Ring::begin_captured_account() {
  if (!copies_can_be_captured_) {
    throw StatusError(SPILLWAY_STATUS_CAPTURE, "ring_begin",
                      "offloaded weights in unpinned host memory cannot be copied inside a capture; allow pinning "
                      "(--pin-memory on), or run forwards without capturing them");
  }
  for (uint32_t k = 0; k < slots_.size(); ++k) {
    // A replay relies on what every forward leaves behind. It cannot be put in order here: whatever is enqueued now is
    // recorded, not done.
    if (slots_[k].eager.element != k) {
      throw StatusError(SPILLWAY_STATUS_CAPTURE, "ring_begin",
                        "an earlier failure left the slots in disorder, which a capture cannot mend; run one forward "
                        "outside of the capture first");
    }
  }
  for (uint32_t k = 0; k < slots_.size(); ++k) {
    Copy& copy = slots_[k].captured;
    copy.element = k;
    copy.awaited = false;
    copy.before_capture = true;
  }
}

// The slots are shared: a forward on another stream would overwrite what the last one still reads. The last one is
// several streams once forwards were captured: a capture runs nothing by itself, but replays of it may be on its
// stream. The events are recorded now and not at the last end(), so that they cover such replays.
void Ring::order_after_earlier_forwards(spillway_stream* stream, bool capturing) {
  if (earlier_.size() == 1 && earlier_.front().stream.get() == stream) return;
  for (const Earlier& earlier : earlier_) {
    if (!capturing && earlier.stream.get() != stream && is_capturing(earlier.stream.get())) {
      // The copy stream may be part of that capture: copies enqueued now would be recorded instead of done.
      throw StatusError(SPILLWAY_STATUS_CAPTURE, "ring_begin",
                        "the stream of the last forward is being captured; end that capture before this forward");
    }
  }
  Earlier next{Reference<spillway_stream>::retain(api_, stream), make_event(),
               make_event()};  // may fail, so it comes first
  for (const Earlier& earlier : earlier_) {
    spillway_stream* last = earlier.stream.get();
    if (last == stream) continue;
    const bool last_capturing = is_capturing(last);
    spillway_event* order = (last_capturing ? earlier.captured : earlier.eager).get();
    check(api_->event_record, order, last);
    check(api_->event_wait, order, stream, capturing && !last_capturing ? SPILLWAY_WAIT_EXTERNAL : 0u);
  }
  std::erase_if(earlier_, [&](const Earlier& earlier) { return !capturing || earlier.stream.get() == stream; });
  earlier_.push_back(std::move(next));
}

void Ring::before(uint32_t element) {
  check_element("ring_before", element);
  check_capture_unchanged("ring_before");
  check_not_replayed("ring_before");
  Slot& slot = slot_of(element);
  // Where there is nothing to wait for, nobody should be told that somebody waited for a microsecond.
  const bool copied_once = capturing_ && !shares_slot_[element];
  const bool may_wait = copy_of(slot).element != element || !(copy_of(slot).awaited || copied_once);
  if (may_wait) mark_on(stream_.get(), kMarkReached, element);
  if (copy_of(slot).element != element) {
    ++counters_.demand_onloads;
    if (!capturing_) ++element_counters_[element].demand_onloads;
    onload(element);
  }
  await_copy(slot);
  mark_on(stream_.get(), kMarkBegin, element);
}

void Ring::after(uint32_t element) {
  check_element("ring_after", element);
  check_capture_unchanged("ring_after");
  check_not_replayed("ring_after");
  const auto elements = static_cast<uint32_t>(elements_.size());
  mark_on(stream_.get(), kMarkEnd, element);
  const uint32_t next = next_element(element, elements, static_cast<uint32_t>(slots_.size()));
  if (copy_of(slot_of(next)).element != next) onload(next);
}

void Ring::end(bool ok) {
  if (!open_) {
    throw StatusError(SPILLWAY_STATUS_INVALID_ARGUMENT, "ring_end", "there is no open forward; begin one first");
  }
  open_ = false;
  if (!ok) ++counters_.failed_forwards;
  if (is_capturing(stream_.get()) != capturing_) {
    // Nothing may be enqueued, and nothing has to be: the account is true, and the next forward goes by it.
    if (ok) check_capture_unchanged("ring_end");
    return;
  }
  if (restore_first_elements()) ++counters_.resets;
  if (copy_stream_joined_) join_copy_stream();
  marks_ = nullptr;
  if (ok) check_not_replayed("ring_end");
}

// What a replay copies for the next one it has to wait for itself: no work of a capture may be left behind. Its
// elements are waited for one by one, in the order in which a forward copies them, so that the times say for which.
void Ring::join_copy_stream() {
  const size_t slots = slots_.size();
  for (size_t i = 0; i < slots; ++i) {
    Slot& slot = slots_[(elements_.size() + i) % slots];
    if (slot.captured.awaited || slot.captured.before_capture) continue;
    mark_on(stream_.get(), kMarkReached, slot.captured.element);
    await_copy(slot);
    mark_on(stream_.get(), kMarkJoined, slot.captured.element);
  }
  check(api_->event_record, join_.get(), copy_stream_.get());
  check(api_->event_wait, join_.get(), stream_.get(), 0u);
}

void Ring::rebuild(uint32_t slot, spillway_stream* stream) {
  if (slot >= slots_.size()) {
    throw StatusError(SPILLWAY_STATUS_INVALID_ARGUMENT, "ring_rebuild", "the ring has no such slot");
  }
  check_same_device("ring_rebuild", stream);
  if (open_ || is_capturing(stream) || is_capturing(copy_stream_.get())) {
    throw StatusError(SPILLWAY_STATUS_CAPTURE, "ring_rebuild",
                      "slots cannot be filled again within a forward or a capture; end both before waking");
  }
  Copy& last = slots_[slot].eager;
  if (last.element == kNoElement) return;  // whoever reads the slot first copies into it
  const uint32_t element = last.element;
  check(api_->event_wait, last.done.get(), stream, 0u);  // or two copies would write at once
  last.element = kNoElement;                             // until everything below is enqueued
  enqueue_copy(element, stream);
  check(api_->event_record, last.done.get(), stream);
  last.element = element;
  last.awaited = false;  // whoever reads the slot or copies into it waits
  count_onload(element);
}

void Ring::await_copy(Slot& slot) {
  Copy& copy = copy_of(slot);
  if (copy.awaited) return;
  if (copy.before_capture) {
    check(api_->event_wait, slot.eager.done.get(), stream_.get(), SPILLWAY_WAIT_EXTERNAL);
  } else {
    check(api_->event_wait, copy.done.get(), stream_.get(), 0u);
  }
  copy.awaited = true;
}

void Ring::onload(uint32_t element) {
  Slot& slot = slot_of(element);
  // A copy nobody came to read. In a capture the new one would race with it; outside, waiting keeps the promise that no
  // slot has more than one unfinished copy once the forward's stream is idle, which core checks statistics by.
  await_copy(slot);
  Copy& last = copy_of(slot);
  last.element = kNoElement;  // until everything below is enqueued
  spillway_event* fork = (capturing_ ? captured_fork_ : eager_fork_).get();
  check(api_->event_record, fork, stream_.get());
  check(api_->event_wait, fork, copy_stream_.get(), 0u);
  copy_stream_joined_ = capturing_;
  mark_on(copy_stream_.get(), kMarkCopyBegin, element);
  enqueue_copy(element, copy_stream_.get());
  mark_on(copy_stream_.get(), kMarkCopyEnd, element);
  check(api_->event_record, last.done.get(), copy_stream_.get());
  last.element = element;
  last.awaited = false;
  last.before_capture = false;
  if (capturing_) {
    ++counters_.captured_onloads;
  } else {
    count_onload(element);
  }
}

void Ring::begin_trace() {
  if (is_capturing(stream_.get())) {
    throw StatusError(
        SPILLWAY_STATUS_CAPTURE, "ring_trace",
        "the stream of the last forward is being captured; begin the trace before the capture, or after it");
  }
  timer_.begin_trace(stream_.get());
}

void Ring::mark(uint32_t kind, uint32_t label) {
  if (open_) mark_on(stream_.get(), kind, label);
}

void Ring::count_onload(uint32_t element) {
  ++counters_.onloads;
  ++element_counters_[element].onloads;
  counters_.onloaded_bytes += elements_[element].bytes;
}

void Ring::enqueue_copy(uint32_t element, spillway_stream* stream) {
  spillway_copy copy{};
  copy.struct_size = sizeof copy;
  copy.to = slot_of(element).buffer.get();
  copy.from = elements_[element].slab.get();
  copy.bytes = elements_[element].bytes;
  check(api_->copy, stream, &copy, 1u);
}

bool Ring::restore_first_elements() {
  bool restored = false;
  for (uint32_t k = 0; k < slots_.size(); ++k) {
    if (copy_of(slots_[k]).element == k) continue;
    onload(k);
    restored = true;
  }
  return restored;
}

}  // namespace spillway::prefetch
