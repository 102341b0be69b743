#include "twin_check.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "../operation.hpp"

namespace spillway::device::host {
namespace {

// NaN in every float type, then small finite numbers: whatever a kernel makes of them, it differs.
constexpr std::array<uint8_t, 2> kPoison = {0xff, 0x3c};

// One thread does all pieces in order: a result that depends on what was not declared must not hide behind one that
// depends on threads.
void serial_for(const spillway_twin_context*, uint64_t count, uint64_t grain,
                void (*body)(void* state, uint64_t begin, uint64_t end), void* state) {
  grain = std::clamp<uint64_t>(grain, 1, std::max<uint64_t>(count, 1));
  for (uint64_t begin = 0; begin < count; begin += std::min(grain, count - begin)) {
    body(state, begin, begin + std::min(grain, count - begin));
  }
}

uint8_t* page_floor(uint8_t* address) {
  return address - reinterpret_cast<uintptr_t>(address) % MemoryFile::page_bytes();
}
uint8_t* page_ceiling(uint8_t* address) { return page_floor(address + MemoryFile::page_bytes() - 1); }

// The first and the last byte for which `differs`; false when there is none.
template <typename Differs>
bool find_range(uint64_t bytes, Differs differs, uint64_t& first, uint64_t& count) {
  first = 0;
  while (first < bytes && !differs(first)) ++first;
  if (first == bytes) return false;
  uint64_t last = bytes - 1;
  while (!differs(last)) --last;
  count = last - first + 1;
  return true;
}

}  // namespace

/// One launch. Bytes go by where they physically are: a kernel may be given one page at two addresses.
class TwinCheck::Run final : public FaultListener {
 public:
  Run(TwinCheck& check, const Operation& operation);
  void twice(const spillway_twin_context& context, spillway_host_twin twin, const void* arguments);
  bool fault(uint8_t* address, bool write) override;

 private:
  /// Declared bytes. kernel: the kernel's address of the first; data: the same in the open mapping.
  struct Span {
    uint64_t begin;
    uint64_t end;
    uint32_t mode;
    uint8_t* kernel;
    uint8_t* data;
    uint8_t* first_page() const { return page_floor(kernel); }
    uint64_t page_bytes() const { return static_cast<uint64_t>(page_ceiling(kernel + (end - begin)) - first_page()); }
  };
  /// Neighbouring bytes in open pages that were declared alike, and that must be looked at.
  struct Piece {
    uint64_t begin;
    uint64_t bytes;
    uint32_t mode;  // 0: undeclared
    uint8_t* kernel;
    uint8_t* data;
    std::vector<uint8_t> before;
    std::vector<uint8_t> first_result;
    bool poisoned() const { return (mode & SPILLWAY_ACCESS_READ) == 0; }
    bool written() const { return (mode & SPILLWAY_ACCESS_WRITE) != 0; }
  };
  struct Fault {
    uint8_t* address;
    uint8_t* base;  // of the region; null: none
    bool write;
    bool freed;
  };
  void cut();
  bool once(const spillway_twin_context& context, spillway_host_twin twin, const void* arguments, size_t round);
  void open() const;
  void close() const;
  void report_faults();
  void compare(size_t round);
  void report(ViolationKind kind, const uint8_t* address, uint64_t bytes) const;

  TwinCheck& check_;
  const Operation& operation_;
  std::vector<Span> spans_;
  std::vector<Piece> pieces_;
  // Filled in the signal handler: no allocation. One a region and mode, so few launches need more.
  std::array<Fault, 64> faults_;
  volatile size_t fault_count_ = 0;
};

TwinCheck::Run::Run(TwinCheck& check, const Operation& operation) : check_(check), operation_(operation) {
  for (const Access& access : operation.accesses()) {
    if (access.bytes == 0) continue;
    access.buffer->visit_physical(
        access.offset, access.bytes, [&](uint64_t physical, uint64_t bytes, uint64_t in_buffer) {
          spans_.push_back({physical, physical + bytes, access.mode, access.buffer->kernel_data() + in_buffer,
                            access.buffer->data() + in_buffer});
        });
  }
  cut();
}

void TwinCheck::Run::cut() {
  const uint64_t page = MemoryFile::page_bytes();
  std::vector<uint64_t> edges;
  for (const Span& span : spans_) {
    for (uint64_t edge : {span.begin / page * page, span.begin, span.end, round_up(span.end, page)}) {
      edges.push_back(edge);
    }
  }
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  for (size_t i = 0; i + 1 < edges.size(); ++i) {
    Piece piece{edges[i], edges[i + 1] - edges[i], 0, nullptr, nullptr, {}, {}};
    bool writable_page = false;
    for (const Span& span : spans_) {
      // Its pages begin and end at edges: they hold all of the piece, or nothing of it.
      if (span.begin / page * page > piece.begin || round_up(span.end, page) <= piece.begin) continue;
      const auto from_span = static_cast<ptrdiff_t>(piece.begin - span.begin);
      piece.kernel = span.kernel + from_span;
      piece.data = span.data + from_span;
      writable_page = writable_page || (span.mode & SPILLWAY_ACCESS_WRITE) != 0;
      if (span.begin <= piece.begin && span.end >= edges[i + 1]) piece.mode |= span.mode;
    }
    // Bytes that may be read, in pages that nobody may write, need no look: the page is guarded.
    if (!piece.data || (piece.mode == SPILLWAY_ACCESS_READ && !writable_page)) continue;
    piece.before.assign(piece.data, piece.data + piece.bytes);
    pieces_.push_back(std::move(piece));
  }
}

void TwinCheck::Run::open() const {
  for (const uint32_t mode : {SPILLWAY_ACCESS_READ, SPILLWAY_ACCESS_WRITE}) {
    const int protection = mode == SPILLWAY_ACCESS_WRITE ? PROT_READ | PROT_WRITE : PROT_READ;
    for (const Span& span : spans_) {
      if (span.mode & mode) protect(span.first_page(), span.page_bytes(), protection);
    }
  }
}

void TwinCheck::Run::close() const {
  for (const Span& span : spans_) protect(span.first_page(), span.page_bytes(), PROT_NONE);
  for (size_t i = 0; i < fault_count_; ++i) {
    const GuardedMemory::Place place = check_.memory_.find(faults_[i].address);
    if (!place.region) continue;
    if (place.region->freed) {
      empty(place.base, place.region->bytes, PROT_NONE);
    } else {
      protect(place.base, place.region->bytes, PROT_NONE);
    }
  }
}

// One fault opens the whole region for that mode: what matters is that it was touched, and where first.
bool TwinCheck::Run::fault(uint8_t* address, bool write) {
  const GuardedMemory::Place place = check_.memory_.find(address);
  if (fault_count_ == faults_.size()) return false;
  faults_[fault_count_] = {address, place.base, write, place.region && place.region->freed};
  fault_count_ = fault_count_ + 1;
  if (!place.region) return false;
  if (place.region->freed) {
    return empty(place.base, place.region->bytes, PROT_READ | PROT_WRITE);
  }
  if (!write && protect(place.base, place.region->bytes, PROT_READ)) {
    // What the kernel may write stays writable.
    for (const Span& span : spans_) {
      const bool here = span.kernel >= place.base && span.kernel < place.base + place.region->bytes;
      if (here && (span.mode & SPILLWAY_ACCESS_WRITE)) {
        protect(span.first_page(), span.page_bytes(), PROT_READ | PROT_WRITE);
      }
    }
    return true;
  }
  return protect(place.base, place.region->bytes, PROT_READ | PROT_WRITE);
}

bool TwinCheck::Run::once(const spillway_twin_context& context, spillway_host_twin twin, const void* arguments,
                          size_t round) {
  for (const Piece& piece : pieces_) {
    if (piece.poisoned()) {
      std::memset(piece.data, kPoison[round], piece.bytes);
    } else {
      std::memcpy(piece.data, piece.before.data(), piece.bytes);
    }
  }
  fault_count_ = 0;
  open();
  volatile bool escaped = false;
  {
    FaultScope scope(*this);
    if (sigsetjmp(escape, 1) == 0) {
      twin(&context, arguments);
    } else {
      escaped = true;
    }
  }
  close();
  return !escaped;
}

void TwinCheck::Run::twice(const spillway_twin_context& context, spillway_host_twin twin, const void* arguments) {
  spillway_twin_context serial = context;
  serial.parallel_for = serial_for;
  const bool returned = once(serial, twin, arguments, 0);
  report_faults();
  compare(0);
  if (returned && once(serial, twin, arguments, 1)) compare(1);
  // Bytes that it had no business with are as they were.
  for (const Piece& piece : pieces_) {
    if (!piece.written()) std::memcpy(piece.data, piece.before.data(), piece.bytes);
  }
}

void TwinCheck::Run::compare(size_t round) {
  uint64_t first = 0;
  uint64_t count = 0;
  for (Piece& piece : pieces_) {
    uint8_t* now = piece.data;
    if (!piece.written()) {
      auto differs = [&](uint64_t i) { return now[i] != (piece.poisoned() ? kPoison[round] : piece.before[i]); };
      // The second run would only say it again.
      if (round == 0 && find_range(piece.bytes, differs, first, count)) {
        report(ViolationKind::kUndeclaredWrite, piece.kernel + first, count);
      }
    } else if (round == 0) {
      piece.first_result.assign(now, now + piece.bytes);
    } else {
      auto untouched = [&](uint64_t i) {
        return piece.poisoned() && piece.first_result[i] == kPoison[0] && now[i] == kPoison[1];
      };
      auto differs = [&](uint64_t i) { return now[i] != piece.first_result[i] && !untouched(i); };
      if (find_range(piece.bytes, differs, first, count)) {
        report(ViolationKind::kUndeclaredRead, piece.kernel + first, count);
      }
      // Declared to be written, and not written this time.
      for (uint64_t i = 0; i < piece.bytes; ++i) {
        if (untouched(i)) now[i] = piece.before[i];
      }
    }
  }
}

void TwinCheck::Run::report_faults() {
  for (size_t i = 0; i < fault_count_; ++i) {
    const Fault& fault = faults_[i];
    const ViolationKind touched = fault.write ? ViolationKind::kUndeclaredWrite : ViolationKind::kUndeclaredRead;
    report(fault.freed ? ViolationKind::kUseAfterFree : touched, fault.address, 1);
  }
}

void TwinCheck::Run::report(ViolationKind kind, const uint8_t* address, uint64_t bytes) const {
  const GuardedMemory::Place place = check_.memory_.find(address);
  char no_memory[64];
  std::snprintf(no_memory, sizeof no_memory, "address %p, no memory of the device", static_cast<const void*>(address));
  check_.checker_.report(
      {kind, place.region ? place.region->label : no_memory,
       place.region ? static_cast<uint64_t>(address - place.base) : 0, bytes, nullptr,
       std::make_shared<OperationRecord>(OperationRecord{operation_.name(), operation_.stream, operation_.site, 0})});
}

void TwinCheck::run(const Operation& operation, const spillway_twin_context& context, spillway_host_twin twin,
                    const void* arguments) {
  Run(*this, operation).twice(context, twin, arguments);
}

}  // namespace spillway::device::host
