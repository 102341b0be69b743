#include "ring.hpp"

namespace spillway::prefetch {

static Reference<spillway_event> create_event(const spillway_api* api, spillway_device* device) {
  spillway_event* event = nullptr;
  check(api->event_create, device, &event);
  return Reference<spillway_event>::adopt(api, event);
}

Ring::Ring(const spillway_api* api, Reference<spillway_stream> copy_stream, std::vector<Element> elements,
           std::vector<Reference<spillway_buffer>> slots)
    : api_(api), copy_stream_(std::move(copy_stream)), elements_(std::move(elements)) {
  spillway_device* device = api->device_of(reinterpret_cast<spillway_object*>(copy_stream_.get()));
  fork_ = create_event(api, device);
  join_ = create_event(api, device);
  handover_ = create_event(api, device);
  for (const Element& element : elements_) {
    if (describe(api, element.slab.get()).storage == SPILLWAY_STORAGE_PAGEABLE) pinned_ = false;
  }
  for (Reference<spillway_buffer>& buffer : slots) {
    Slot slot;
    slot.buffer = std::move(buffer);
    slot.done_eager = create_event(api, device);
    slot.done_captured = create_event(api, device);
    slots_.push_back(std::move(slot));
  }
}

bool Ring::canonical() const {
  for (size_t k = 0; k < slots_.size(); ++k) {
    if (slots_[k].occupant != static_cast<int64_t>(k)) return false;
  }
  return true;
}

void Ring::start(spillway_stream* compute) {
  compute_ = Reference<spillway_stream>::retain(api_, compute);
  fill_slots();
}

void Ring::begin(spillway_stream* compute) {
  bool capturing = api_->stream_capturing(compute) != 0;
  if (capturing && !pinned_ && size() > slots()) {
    throw StatusError(SPILLWAY_STATUS_CAPTURE, "begin",
                      "the offloaded layers lie in unpinned host memory, and a copy from there cannot be recorded: pin "
                      "it (--pin-memory on), give every layer a slot of its own, or run without capturing");
  }
  if (capturing && !canonical()) {
    throw StatusError(SPILLWAY_STATUS_CAPTURE, "begin",
                      "the slots do not hold the first layers, so this capture could not be replayed; run one forward "
                      "without capturing first");
  }
  if (compute_ && compute_.get() != compute) {
    // Its kernels may still read the slots.
    check(api_->event_record, handover_.get(), compute_.get());
    check(api_->event_wait, handover_.get(), compute, capturing ? SPILLWAY_WAIT_EXTERNAL : 0u);
  }
  compute_ = Reference<spillway_stream>::retain(api_, compute);
  in_capture_ = capturing;
  copied_in_capture_ = false;
  for (Slot& slot : slots_) slot.waited_in_capture = slot.loaded_in_capture = false;
}

void Ring::wait_eager_in_capture(Slot& slot, spillway_stream* stream) {
  check(api_->event_wait, slot.done_eager.get(), stream, SPILLWAY_WAIT_EXTERNAL);
}

void Ring::onload(uint32_t index) {
  const Element& element = elements_[index];
  Slot& slot = slots_[slot_of(index)];
  // The copy starts after everything enqueued so far, readers of the slot included. In a capture this also makes the
  // copy stream part of it.
  check(api_->event_record, fork_.get(), compute_.get());
  check(api_->event_wait, fork_.get(), copy_stream_.get(), 0u);
  if (in_capture_ && !slot.loaded_in_capture && !slot.waited_in_capture) {
    // Nobody in this capture has waited for the copy that was filling the slot when it began.
    wait_eager_in_capture(slot, copy_stream_.get());
    slot.waited_in_capture = true;
  }
  spillway_copy copy{};
  copy.struct_size = sizeof copy;
  copy.to = slot.buffer.get();
  copy.from = element.slab.get();
  copy.bytes = element.bytes;
  // If anything from here on fails, nobody can say what the slot holds.
  slot.occupant = kNobody;
  check(api_->copy, copy_stream_.get(), &copy);
  check(api_->event_record, in_capture_ ? slot.done_captured.get() : slot.done_eager.get(), copy_stream_.get());
  slot.occupant = index;
  slot.loaded_in_capture = in_capture_;
  if (in_capture_) {
    copied_in_capture_ = true;
    ++counters_.captured_onloads;
  } else {
    counters_.onloaded_bytes += element.bytes;
    ++counters_.onloads;
  }
}

void Ring::before(uint32_t index) {
  Slot& slot = slots_[slot_of(index)];
  if (slot.occupant != static_cast<int64_t>(index)) {
    onload(index);
    ++counters_.demand_onloads;
  }
  if (!in_capture_) {
    // Only this one's copy: those of other slots keep flowing.
    check(api_->event_wait, slot.done_eager.get(), compute_.get(), 0u);
  } else if (slot.loaded_in_capture) {
    check(api_->event_wait, slot.done_captured.get(), compute_.get(), 0u);
  } else if (!slot.waited_in_capture) {
    wait_eager_in_capture(slot, compute_.get());
    slot.waited_in_capture = true;
  }
}

void Ring::after(uint32_t index) {
  // The same slot's next element, or its first: an element that has the slot for itself is never copied again.
  uint32_t next = index + slots() < size() ? index + slots() : index % slots();
  if (slots_[slot_of(next)].occupant != static_cast<int64_t>(next)) onload(next);
}

void Ring::fill_slots() {
  for (uint32_t k = 0; k < slots(); ++k) {
    if (slots_[k].occupant != static_cast<int64_t>(k)) onload(k);
  }
}

void Ring::end() {
  if (!canonical()) ++counters_.resets;
  fill_slots();
  if (in_capture_ && copied_in_capture_) {
    check(api_->event_record, join_.get(), copy_stream_.get());
    check(api_->event_wait, join_.get(), compute_.get(), 0u);
  }
  in_capture_ = false;
}

void Ring::rebuild(uint32_t index, spillway_stream* stream) {
  const Slot& slot = slots_[index];
  if (slot.occupant == kNobody) return;
  const Element& element = elements_[static_cast<size_t>(slot.occupant)];
  spillway_copy copy{};
  copy.struct_size = sizeof copy;
  copy.to = slot.buffer.get();
  copy.from = element.slab.get();
  copy.bytes = element.bytes;
  check(api_->copy, stream, &copy);
}

}  // namespace spillway::prefetch
