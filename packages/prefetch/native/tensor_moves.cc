#include "tensor_moves.hpp"

#include <algorithm>
#include <spillway/kernel_image.hpp>
#include <string>

#include "kernels/gather_scatter_args.h"

namespace spillway::images {
KernelImage gather_scatter();
}

namespace spillway::prefetch {

void gather_scatter_twin(const spillway_twin_context* context, const void* arguments);

namespace {

constexpr uint64_t kVectorBytes = 16;
constexpr uint32_t kThreads = 256;                 // as in gather_scatter.cu
constexpr uint64_t kMaximumChunks = 0x7fffffff;    // blocks of a grid
constexpr uint64_t kWorthAligning = 4096;          // bytes from which on a range is cut where it becomes aligned
static_assert(sizeof(GatherScatterArgs) <= 4096);  // what a launch may have

const KernelImage image = images::gather_scatter();
const spillway_kernel kernel = {sizeof(spillway_kernel), 0, "gather_scatter", image.data, image.bytes,
                                gather_scatter_twin};

[[noreturn]] void refuse(size_t tensor, const char* problem,
                         spillway_status status = SPILLWAY_STATUS_INVALID_ARGUMENT) {
  throw StatusError(status, "gather_scatter", "tensor " + std::to_string(tensor) + " " + problem);
}

/// The bytes from the first to behind the last element.
struct Extent {
  uint64_t address;
  uint64_t bytes;
  spillway_access access;
};

bool overlap(const Extent& a, const Extent& b) {
  return a.address < b.address + b.bytes && b.address < a.address + a.bytes;
}

/// `step`: of the side that is meant. No dimension has length 0.
Extent extent_of(const spillway_api* api, size_t tensor, const TensorMove& move, uint64_t TensorDimension::*step) {
  const bool reads = step == &TensorDimension::from_step;
  spillway_buffer* buffer = reads ? move.from : move.to;
  const uint64_t offset = reads ? move.from_offset : move.to_offset;
  uint64_t bytes = move.element_bytes;
  for (const TensorDimension& dimension : move.dimensions) {
    uint64_t reach = 0;
    if (__builtin_mul_overflow(dimension.length - 1, dimension.*step, &reach) ||
        __builtin_add_overflow(bytes, reach, &bytes)) {
      refuse(tensor, "is larger than any buffer");
    }
  }
  const spillway_buffer_info info = describe(api, buffer);
  if (bytes > info.bytes || offset > info.bytes - bytes) refuse(tensor, "does not lie inside of its buffer");
  if (info.device_address == 0) refuse(tensor, "lies in memory that the device cannot reach: copy it to the device");
  const uint32_t mode = reads ? SPILLWAY_ACCESS_READ : SPILLWAY_ACCESS_WRITE;
  return {info.device_address + offset, bytes, {buffer, offset, bytes, mode, 0}};
}

bool same_steps(const TensorDimension& dimension) { return dimension.from_step == dimension.to_step; }

/// Bytes that lie together on both sides.
bool is_run(const TensorDimension& dimension) { return dimension.from_step == 1 && dimension.to_step == 1; }

uint64_t lowest_bit(uint64_t value) { return value & (~value + 1); }

/// Makes `inner` hold what it and `outer` do, where one dimension can: rows without gaps between them, or, with the
/// same steps on both sides, rows that overlap.
bool join(TensorDimension& inner, const TensorDimension& outer) {
  if (same_steps(inner) && same_steps(outer)) {
    const uint64_t ratio = outer.to_step / inner.to_step;
    if (outer.to_step % inner.to_step != 0 || ratio > inner.length) return false;
    inner.length += (outer.length - 1) * ratio;
    return true;
  }
  if (outer.from_step != inner.from_step * inner.length || outer.to_step != inner.to_step * inner.length) return false;
  inner.length *= outer.length;
  return true;
}

/// The same bytes in as few dimensions as can be, innermost first. The bytes of an element are a dimension too.
std::vector<TensorDimension> joined_dimensions(const TensorMove& move) {
  std::vector<TensorDimension> dimensions = move.dimensions;
  dimensions.push_back({move.element_bytes, 1, 1});
  std::sort(dimensions.begin(), dimensions.end(), [](const TensorDimension& a, const TensorDimension& b) {
    return a.to_step != b.to_step ? a.to_step < b.to_step : a.from_step < b.from_step;
  });
  std::vector<TensorDimension> joined;
  for (const TensorDimension& dimension : dimensions) {
    if (dimension.length == 1 || (dimension.from_step == 0 && dimension.to_step == 0)) continue;
    if (joined.empty() || !join(joined.back(), dimension)) joined.push_back(dimension);
  }
  if (joined.empty()) joined.push_back({1, 1, 1});
  return joined;
}

/// Refuses what would write a place with different bytes, or take longer than its memory explains.
void check_places(size_t tensor, const std::vector<TensorDimension>& joined, uint64_t to_bytes) {
  const bool same = std::all_of(joined.begin(), joined.end(), same_steps);
  uint64_t reach = 1;  // from the first to behind the last byte of the dimensions further in
  bool apart = true;
  double count = 1;
  for (const TensorDimension& dimension : joined) {
    apart = apart && dimension.to_step >= reach;
    reach += (dimension.length - 1) * dimension.to_step;
    count *= static_cast<double>(dimension.length);
  }
  if (apart || (same && count <= static_cast<double>(to_bytes))) return;
  refuse(tensor, "puts several elements at one place: give it strides that keep them apart");
}

/// A move of units that divide both addresses, every step, and the innermost run.
Move move_of(size_t tensor, uint64_t from, uint64_t to, const std::vector<TensorDimension>& joined) {
  uint64_t unit = 1;
  if (is_run(joined[0])) {
    uint64_t all = kVectorBytes | from | to | joined[0].length;
    for (size_t d = 1; d < joined.size(); ++d) all |= joined[d].from_step | joined[d].to_step;
    unit = lowest_bit(all);
  }
  Move move{};
  move.from = from;
  move.to = to;
  move.unit_bytes = static_cast<uint32_t>(unit);
  for (const TensorDimension& dimension : joined) {
    const MoveDimension in_units = is_run(dimension)
                                       ? MoveDimension{dimension.length / unit, unit, unit}
                                       : MoveDimension{dimension.length, dimension.from_step, dimension.to_step};
    // A run of one unit is no dimension, unless it is all there is.
    if (in_units.length == 1 && joined.size() > 1) continue;
    if (move.rank == SPILLWAY_MOVE_RANK) {
      refuse(tensor, "has more than 6 dimensions that cannot be joined: copy it into a simpler layout first",
             SPILLWAY_STATUS_NOT_SUPPORTED);
    }
    move.dimensions[move.rank++] = in_units;
  }
  return move;
}

/// One move, or several where a long run is aligned in its middle only.
std::vector<Move> moves_of(size_t tensor, uint64_t from, uint64_t to, const std::vector<TensorDimension>& joined) {
  const uint64_t bytes = joined[0].length;
  if (joined.size() > 1 || !is_run(joined[0]) || bytes < kWorthAligning) return {move_of(tensor, from, to, joined)};
  const uint64_t unit = lowest_bit(kVectorBytes | (from ^ to));  // from where both sides are aligned at once
  const uint64_t head = (unit - to % unit) % unit, tail = (bytes - head) % unit;
  std::vector<Move> moves;
  uint64_t at = 0;
  for (const uint64_t part : {head, bytes - head - tail, tail}) {
    if (part > 0) moves.push_back(move_of(tensor, from + at, to + at, {{part, 1, 1}}));
    at += part;
  }
  return moves;
}

uint64_t chunks_of(const Move& move) {
  uint64_t units = 1;
  for (uint32_t d = 0; d < move.rank; ++d) units *= move.dimensions[d].length;
  return (units + SPILLWAY_UNITS_PER_CHUNK - 1) / SPILLWAY_UNITS_PER_CHUNK;
}

/// Collects moves and launches them whenever one more would be too many.
class Launches {
 public:
  Launches(const spillway_api* api, spillway_stream* stream) : api_(api), stream_(stream) {}

  void add(Move move, const Extent& from, const Extent& to) {
    const uint64_t chunks = chunks_of(move);
    if (args_.count == SPILLWAY_MOVES_PER_LAUNCH || chunks > kMaximumChunks - chunks_) flush();
    chunks_ += chunks;
    move.end_chunk = static_cast<uint32_t>(chunks_);
    args_.moves[args_.count++] = move;
    accesses_.push_back(from.access);
    accesses_.push_back(to.access);
  }

  void flush() {
    if (args_.count == 0) return;
    spillway_launch launch{};
    launch.struct_size = sizeof launch;
    launch.access_count = static_cast<uint32_t>(accesses_.size());
    launch.kernel = &kernel;
    launch.arguments = &args_;
    launch.argument_bytes = sizeof args_;
    launch.grid[0] = static_cast<uint32_t>(chunks_);
    launch.grid[1] = launch.grid[2] = 1;
    launch.block[0] = kThreads;
    launch.block[1] = launch.block[2] = 1;
    launch.accesses = accesses_.data();
    check(api_->launch, stream_, &launch);
    args_ = {};
    chunks_ = 0;
    accesses_.clear();
  }

 private:
  const spillway_api* api_;
  spillway_stream* stream_;
  GatherScatterArgs args_{};
  uint64_t chunks_ = 0;
  std::vector<spillway_access> accesses_;
};

struct Planned {
  Move move;
  size_t tensor;
};

}  // namespace

void gather_scatter(const spillway_api* api, spillway_stream* stream, const std::vector<TensorMove>& tensors) {
  std::vector<Extent> read, written;
  std::vector<Planned> planned;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorMove& tensor = tensors[i];
    const auto is_empty = [](const TensorDimension& dimension) { return dimension.length == 0; };
    if (std::any_of(tensor.dimensions.begin(), tensor.dimensions.end(), is_empty)) {
      read.push_back({});
      written.push_back({});
      continue;
    }
    read.push_back(extent_of(api, i, tensor, &TensorDimension::from_step));
    written.push_back(extent_of(api, i, tensor, &TensorDimension::to_step));
    const std::vector<TensorDimension> joined = joined_dimensions(tensor);
    check_places(i, joined, written[i].bytes);
    for (const Move& move : moves_of(i, read[i].address, written[i].address, joined)) {
      if (chunks_of(move) > kMaximumChunks)
        refuse(i, "is larger than a launch can move", SPILLWAY_STATUS_NOT_SUPPORTED);
      planned.push_back({move, i});
    }
  }
  // Addresses, not buffers: two buffers may lie over the same memory. Threads run in any order.
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (const Extent& source : read) {
      if (overlap(written[i], source)) refuse(i, "is written where this call reads: give it memory of its own");
    }
  }
  Launches launches(api, stream);
  for (const auto& [move, tensor] : planned) launches.add(move, read[tensor], written[tensor]);
  launches.flush();
}

}  // namespace spillway::prefetch
