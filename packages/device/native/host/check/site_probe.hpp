// Asks whoever drives the device where it is in its own program. What makes a report point at a line.
#pragma once

#include <cstdint>

namespace spillway::device::host {

class SiteProbe {
 public:
  virtual ~SiteProbe() = default;
  /// Remembers the present place in the program; the number to ask for it by, or 0 when this thread has no such place.
  /// pending: there are violations to fetch.
  virtual uint64_t mark(bool pending) = 0;
};

}  // namespace spillway::device::host
