// The ring of prefetch: the host bytes of n elements (slabs) pass through S fixed device buffers (slots), each copied
// ahead of its use on one copy stream. Element i always goes to slot i mod S, so that kernels read it at one address.
// Which element is copied next is vLLM's rule (as of its PR #54975). What differs: a slot that holds the right element
// is never copied again, and what a slot holds is known, not assumed, so any order of calls gives right bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <spillway/abi.hpp>
#include <vector>

#include "forward_timer.hpp"

namespace spillway::prefetch {

inline constexpr uint32_t kNoElement = UINT32_MAX;

/// Which element goes into the slot of `element` when that one is done: the one `slots` ahead or, at the end, the first
/// of those that share the slot, ready for the next forward. Itself when it shares its slot with nobody.
inline uint32_t next_element(uint32_t element, uint32_t elements, uint32_t slots) {
  return slots < elements - element ? element + slots : element % slots;
}

struct RingElement {
  spillway_buffer* slab;  // host memory
  uint64_t bytes;         // of it, from its start
};

/// Since the ring was made.
struct RingCounters {
  uint64_t onloads = 0;         // copies enqueued outside captures; replays of a graph are not seen here
  uint64_t onloaded_bytes = 0;  // of those
  uint64_t captured_onloads = 0;
  uint64_t demand_onloads = 0;   // of both kinds: begun only when the element was about to be read
  uint64_t resets = 0;           // ends of forwards that found a slot without its first element
  uint64_t forwards = 0;         // that began, captured ones included
  uint64_t failed_forwards = 0;  // of those: ended with ok false
};

/// Of one element, since the ring was made; captured copies are not counted.
struct ElementCounters {
  uint64_t onloads = 0;
  uint64_t demand_onloads = 0;  // of those: begun only when the element was about to be read
};

/// One thread at a time. Methods only enqueue, and never block on the device. All throw StatusError. Keeps its buffers
/// and streams until it is destroyed; work enqueued by then keeps what it needs itself.
class Ring {
 public:
  /// `slots`: at least one, at most as many as elements; slot k has room for every element i with i mod S = k.
  Ring(const spillway_api* api, spillway_stream* copy_stream, const std::vector<RingElement>& elements,
       const std::vector<spillway_buffer*>& slots);
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// Starts the first onloads, once everything enqueued on `stream` so far is done. Once, before the first forward.
  void start(spillway_stream* stream);

  /// A forward: begin, then before(i), the kernels that read element i, after(i), and so on, then end. Elements may be
  /// left out or come again; they do not nest. The stream may be another one each time, and may be in a capture that
  /// lasts until after end(). A graph that holds a forward may not be launched while one is open: both rely on what is
  /// in the slots. Whichever call comes next throws then.
  /// True: it is timed, so that the caller may set marks of its own.
  bool begin(spillway_stream* stream);
  /// The stream's later work sees element i in its slot.
  void before(uint32_t element);
  /// What was enqueued on the stream until now is the last that reads element i; its slot gets the next one.
  void after(uint32_t element);
  /// Slots get their first elements back. In a capture, joins the copy stream. `ok` false: a failure is on its way
  /// already, so that a capture that began or ended too early is not reported once more.
  void end(bool ok);

  /// Copies the slot's present element into it again, on `stream`: for when the device memory behind it was given up.
  void rebuild(uint32_t slot, spillway_stream* stream);

  /// Who times its forwards.
  ForwardTimer& timer() { return timer_; }
  /// From where the stream of the last forward is now. Not in a capture: each replay would begin the trace again.
  void begin_trace();
  /// A mark of the caller's own on the stream of the open forward, if that is timed.
  void mark(uint32_t kind, uint32_t label);

  const RingCounters& counters() const { return counters_; }
  const std::vector<ElementCounters>& element_counters() const { return element_counters_; }

 private:
  using Event = Reference<spillway_event>;
  struct Element {
    Reference<spillway_buffer> slab;
    uint64_t bytes;
  };
  /// The last copy into a slot, in stream order.
  struct Copy {
    Event done;
    uint32_t element = kNoElement;
    bool awaited = true;          // the forward's stream is ordered after it
    bool before_capture = false;  // within a capture: it was made before, so the one to wait for is Slot::eager
  };
  /// Work recorded in a capture runs later, or many times, or never: it has an account of its own, begun anew by every
  /// captured forward. Both accounts agree at the begin and the end of each forward, which is what makes any mix of
  /// replays and forwards right. An event recorded for one is never waited for in the other, which streams refuse.
  struct Slot {
    Reference<spillway_buffer> buffer;
    Copy eager;
    Copy captured;
  };
  /// Where a forward may still run that the next one comes after.
  struct Earlier {
    Reference<spillway_stream> stream;
    Event eager;     // recorded when it is not captured
    Event captured;  // recorded when it is in the same capture
  };

  Copy& copy_of(Slot& slot) { return capturing_ ? slot.captured : slot.eager; }
  Slot& slot_of(uint32_t element) { return slots_[element % slots_.size()]; }
  Event make_event() const;
  bool is_capturing(spillway_stream* stream) const { return api_->stream_capturing(stream) != 0; }
  void check_element(const char* call, uint32_t element) const;
  void check_same_device(const char* call, spillway_stream* stream) const;
  void check_capture_unchanged(const char* call) const;
  uint64_t replays() const { return graphs_ ? graphs_->replays(copy_stream_.get()) : 0; }
  void check_not_replayed(const char* call);
  void begin_captured_account();
  void order_after_earlier_forwards(spillway_stream* stream, bool capturing);
  void await_copy(Slot& slot);
  void join_copy_stream();
  void onload(uint32_t element);
  void enqueue_copy(uint32_t element, spillway_stream* stream);
  void count_onload(uint32_t element);
  void mark_on(spillway_stream* stream, uint32_t kind, uint32_t label) {
    if (marks_) marks_->record(stream, kind, label);
  }
  /// True when a slot did not hold its first element.
  bool restore_first_elements();

  const spillway_api* const api_;
  const Reference<spillway_stream> copy_stream_;
  spillway_device* const device_;           // kept by copy_stream_
  const spillway_graph_api* const graphs_;  // null: the device has none
  const std::vector<bool> shares_slot_;     // by element; else it is copied once
  std::vector<Element> elements_;
  std::vector<Slot> slots_;
  Event eager_fork_;  // the copy stream begins after this
  Event captured_fork_;
  std::vector<Earlier> earlier_;  // the last forward that ran, and those captured since
  Event join_;
  bool copies_can_be_captured_ = true;  // of the elements that are ever copied again
  Reference<spillway_stream> stream_;   // of the forward, or of the last one
  bool open_ = false;
  bool capturing_ = false;           // the forward began in a capture
  bool copy_stream_joined_ = false;  // that capture, in this forward
  uint64_t replays_ = 0;             // of graphs with copies of this ring, when the forward began
  RingCounters counters_;
  std::vector<ElementCounters> element_counters_;
  ForwardTimer timer_;
  std::shared_ptr<ForwardMarks> marks_;  // of the open forward; null: it is not timed
};

}  // namespace spillway::prefetch
