// What the checkers report.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace spillway::device::host {

/// An operation as a report names it.
struct OperationRecord {
  std::string what;          // "copy", a kernel's name, "host read"
  std::string stream;        // "stream 2 (high)", "host"
  uint64_t site = 0;         // where it was enqueued, known to JavaScript by this number; 0: not from there
  uint64_t launch_site = 0;  // of a graph's operation: where the graph was launched
};

enum class ViolationKind : uint32_t {
  kReadAfterWrite,
  kWriteAfterRead,
  kWriteAfterWrite,
  kEarlyFree,
  kUseAfterFree,
  kReadBeforeWrite,
  kUndeclaredRead,
  kUndeclaredWrite,
  kUnjoinedFork,
};

struct Violation {
  ViolationKind kind;
  std::string buffer;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::shared_ptr<const OperationRecord> earlier;  // null where there is only one
  std::shared_ptr<const OperationRecord> later;
};

}  // namespace spillway::device::host
