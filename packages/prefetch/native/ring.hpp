// The ring: offloaded layers pass through a few device slots in the order of the forward. Pure over the C ABI.
//
// Element i lives in slot i mod slots. All decisions are taken when work is enqueued and follow from one fact a slot:
// who is in it once everything enqueued so far is done. So any order of calls is right: a skipped, repeated or
// unexpected layer finds somebody else in its slot and is brought in on demand. The order of vLLM's prefetch offloader
// (next(i) stays in the slot just released) is what makes the usual order never wait longer than it must.
//
// One thread at a time (the JavaScript thread of the environment that made it).
#pragma once

#include <cstdint>
#include <spillway/abi.hpp>
#include <vector>

namespace spillway::prefetch {

struct RingCounters {
  uint64_t onloaded_bytes = 0;    // enqueued outside captures; what a graph copies is counted by the device alone
  uint64_t onloads = 0;           // likewise
  uint64_t captured_onloads = 0;  // recorded into captures
  uint64_t demand_onloads = 0;    // of all: not started ahead
  uint64_t resets = 0;            // forwards that ended with other elements in the slots than the next one starts with
};

class Ring {
 public:
  struct Element {
    Reference<spillway_buffer> slab;
    uint64_t bytes;
  };

  /// At most as many slots as elements; slot k is large enough for every element i with i mod slots = k.
  Ring(const spillway_api* api, Reference<spillway_stream> copy_stream, std::vector<Element> elements,
       std::vector<Reference<spillway_buffer>> slots);

  /// The first onloads, after what is enqueued on the stream.
  void start(spillway_stream* compute);

  uint32_t size() const { return static_cast<uint32_t>(elements_.size()); }
  uint32_t slots() const { return static_cast<uint32_t>(slots_.size()); }

  /// Begins a forward on this stream, ordered after the last one's. Also in a capture.
  void begin(spillway_stream* compute);
  /// From here on work on the compute stream reads element i in its slot.
  void before(uint32_t element);
  /// No later work reads element i: its slot is free for the next.
  void after(uint32_t element);
  /// Brings the first elements in for the next forward; joins the copies inside a capture.
  void end();
  /// Copies who belongs in the slot into it again, on this stream: its memory came back without contents.
  void rebuild(uint32_t slot, spillway_stream* stream);

  const RingCounters& counters() const { return counters_; }

 private:
  static constexpr int64_t kNobody = -1;
  struct Slot {
    Reference<spillway_buffer> buffer;
    // Two events: an event recorded in a capture may not be waited for outside it, nor the other way round.
    Reference<spillway_event> done_eager;
    Reference<spillway_event> done_captured;
    int64_t occupant = kNobody;
    bool loaded_in_capture = false;
    bool waited_in_capture = false;  // for the eager copy that was enqueued before the capture
  };

  uint32_t slot_of(uint32_t element) const { return element % slots(); }
  void onload(uint32_t element);
  void fill_slots();
  void wait_eager_in_capture(Slot& slot, spillway_stream* stream);
  bool canonical() const;

  const spillway_api* api_;
  Reference<spillway_stream> copy_stream_;
  std::vector<Element> elements_;
  std::vector<Slot> slots_;
  Reference<spillway_event> fork_;
  Reference<spillway_event> join_;
  Reference<spillway_event> handover_;
  Reference<spillway_stream> compute_;  // of the forward that is open, or of the last one
  bool pinned_ = true;                  // every slab: a copy from any other memory cannot be recorded
  bool in_capture_ = false;
  bool copied_in_capture_ = false;
  RingCounters counters_;
};

}  // namespace spillway::prefetch
