// The accesses to one piece of memory that later ones must come after: for every byte the last write, and the reads
// since. Kept by ranges, since a copy touches megabytes at once; otherwise as FastTrack does (Flanagan, Freund 2009).
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "vector_clock.hpp"
#include "violation.hpp"

namespace spillway::device::host {

/// One operation in the order of things: the time-th of its lane, after all that `clock` has seen.
struct Stamp {
  uint32_t lane;
  uint64_t time;
  std::shared_ptr<const OperationRecord> operation;
};

struct Conflict {
  ViolationKind kind;
  std::shared_ptr<const OperationRecord> earlier;
  uint64_t offset;
  uint64_t bytes;
};

class AccessHistory {
 public:
  /// written: whether fresh memory counts as written (host memory is zeroed, device memory is poison).
  AccessHistory(uint64_t bytes, bool written);

  /// values: whether the reader uses what it reads; a copy only passes it on.
  void read(uint64_t offset, uint64_t bytes, const Stamp& stamp, const VectorClock& clock, bool values,
            std::vector<Conflict>& conflicts);
  void write(uint64_t offset, uint64_t bytes, const Stamp& stamp, const VectorClock& clock,
             std::vector<Conflict>& conflicts);

  struct Piece {
    uint64_t offset;
    uint64_t bytes;
    bool written;
  };
  /// Which bytes hold something.
  std::vector<Piece> written(uint64_t offset, uint64_t bytes) const;
  /// Forgets all: fresh memory, in which everything must come after `stamp`, if it is of an operation.
  void restart(uint64_t offset, uint64_t bytes, const Stamp& stamp);
  void set_written(uint64_t offset, uint64_t bytes, bool written);

 private:
  struct Segment {
    uint64_t end;
    bool written;
    Stamp write{};  // operation null: none yet
    std::vector<Stamp> reads;
  };
  using Segments = std::map<uint64_t, Segment>;
  Segments::iterator split(uint64_t at);
  void merge(uint64_t begin, uint64_t end);

  Segments segments_;  // by begin; cover all bytes
};

}  // namespace spillway::device::host
