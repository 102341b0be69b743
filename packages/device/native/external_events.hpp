#pragma once

#include <set>

#include "device.hpp"
#include "failure.hpp"

namespace spillway::device {

/// The events through which a capture meets streams outside of it. One event is not both recorded and waited for: which
/// of its records the wait would mean, this replay's or the one before, drivers do not say.
class ExternalEvents {
 public:
  enum class Use : bool { kWait, kRecord };
  /// Throws CAPTURE.
  void add(const Event& event, Use use) {
    const bool records = use == Use::kRecord;
    if ((records ? waited_ : recorded_).contains(&event)) {
      fail(SPILLWAY_STATUS_CAPTURE, records ? "event_record" : "event_wait",
           "a capture cannot both wait for an external record of an event and make one; use two events");
    }
    (records ? recorded_ : waited_).insert(&event);
  }

 private:
  std::set<const Event*> waited_;  // kept by the capture
  std::set<const Event*> recorded_;
};

}  // namespace spillway::device
