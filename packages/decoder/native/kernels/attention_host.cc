#include "attention_args.h"
#include "panel.hpp"
#include "twin.hpp"

namespace {

// Queries of one piece of work: they share each block of keys and values, which is then transposed or widened once.
constexpr uint64_t kQueries = 32;
constexpr uint64_t kMaxHeadDim = SPILLWAY_ATTENTION_MAX_HEAD_DIM;

/// Softmax block by block, as Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018): the running
/// maximum and sum of each query; its output so far, under that maximum, lies where the output belongs. About 70 KiB,
/// on the stack of a device's thread: some systems give a thread 128 KiB.
struct State {
  alignas(64) float q[kQueries * kMaxHeadDim];  // scaled
  alignas(64) float probabilities[kQueries * kPanel];
  alignas(64) float panel[kMaxHeadDim * kPanel];  // a block of keys, transposed; then a block of values
  alignas(64) float tile[kTileRows * kPanel];
  float maximum[kQueries];
  float total[kQueries];
  float* y[kQueries];
};

/// The queries of one piece: `heads` query heads, all of one key-value head, in each of `rows` rows.
struct Queries {
  uint64_t row, rows;
  uint64_t head, heads;
  uint64_t count() const { return rows * heads; }
};

/// Positions of the cache, or of one block of it: [begin, end).
struct Range {
  int64_t begin, end;
  bool empty() const { return begin >= end; }
  uint64_t size() const { return empty() ? 0 : static_cast<uint64_t>(end - begin); }
};

/// What a row sees of the block of positions [start, start + block), counted from its start.
SPILLWAY_INLINE Range visible(const Range& seen, uint64_t start, uint64_t block) {
  const int64_t first = static_cast<int64_t>(start), length = static_cast<int64_t>(block);
  const int64_t begin = seen.begin - first, end = seen.end - first;
  return {begin < 0 ? 0 : begin, end < length ? end : length};
}

/// From scores to probabilities, of one query and block; scales back what was summed under a smaller maximum.
SPILLWAY_INLINE void softmax_step(State& s, uint64_t query, const float* scores, const Range& seen, uint64_t head_dim) {
  const MaskLanes lane = {SPILLWAY_LANE_NUMBERS}, right_lane = lane + static_cast<int32_t>(kLanes);
  const MaskLanes begin = MaskLanes{} + static_cast<int32_t>(seen.begin);
  const MaskLanes end = MaskLanes{} + static_cast<int32_t>(seen.end);
  const Lanes none = broadcast(-__builtin_inff());
  const Lanes left = select((lane >= begin) & (lane < end), load(scores), none);
  const Lanes right = select((right_lane >= begin) & (right_lane < end), load(scores + kLanes), none);
  const float before = s.maximum[query], largest = maximum(select(right > left, right, left));
  const float now = largest > before ? largest : before;
  if (now != before) {
    const float factor = exponential(broadcast(before - now))[0];
    s.maximum[query] = now;
    s.total[query] *= factor;
    for (uint64_t i = 0; i < head_dim; ++i) s.y[query][i] *= factor;
  }
  const Lanes left_power = exponential(left - now), right_power = exponential(right - now);
  store(s.probabilities + query * kPanel, left_power);
  store(s.probabilities + query * kPanel + kLanes, right_power);
  s.total[query] += sum(left_power + right_power);
}

/// y += probabilities · panel for queries [first, last), over the positions `seen` of the block and `columns` columns
/// from `column` on.
SPILLWAY_INLINE void add_values(State& s, uint64_t first, uint64_t last, const Range& seen, uint64_t column,
                                uint64_t columns) {
  const float* panel = s.panel + static_cast<uint64_t>(seen.begin) * kPanel;
  for (uint64_t query = first; query < last; query += kTileRows) {
    const uint64_t count = smaller(kTileRows, last - query);
    const float* probabilities = s.probabilities + query * kPanel + seen.begin;
    multiply_panel(count, probabilities, kPanel, panel, seen.size(), s.tile);
    for (uint64_t r = 0; r < count; ++r) {
      float* y = s.y[query + r] + column;
      for (uint64_t j = 0; j < columns; ++j) y[j] += s.tile[r * kPanel + j];
    }
  }
}

template <typename Element>
void attend(const AttentionArgs& a, const Queries& queries, State& s) {
  const uint64_t head_dim = a.head_dim, group = a.heads / a.key_value_heads;
  const uint64_t qkv_width = (uint64_t{a.heads} + 2 * uint64_t{a.key_value_heads}) * head_dim;
  const uint64_t cache_width = uint64_t{a.key_value_heads} * head_dim;
  const uint64_t cache_column = queries.head / group * head_dim;
  const int64_t position = int64_t{*a.position} + static_cast<int64_t>(queries.row);
  const int64_t context = a.context;
  const int64_t window = a.window == 0 ? context : int64_t{a.window};
  // Positions outside the cache see nothing: no score, a sum of zero, and so NaN.
  const auto seen_by = [&](uint64_t row) {
    const int64_t at = position + static_cast<int64_t>(row);
    if (at < 0 || at >= context) return Range{0, 0};
    return Range{at < window ? 0 : at + 1 - window, at + 1};
  };
  // Of all rows together.
  Range seen = {context, 0};
  for (uint64_t row = 0; row < queries.rows; ++row) {
    const Range by_row = seen_by(row);
    if (!by_row.empty()) seen = {by_row.begin < seen.begin ? by_row.begin : seen.begin, by_row.end};
    for (uint64_t head = 0; head < queries.heads; ++head) {
      const uint64_t query = row * queries.heads + head;
      const float* q = a.qkv + (queries.row + row) * qkv_width + (queries.head + head) * head_dim;
      for (uint64_t i = 0; i < head_dim; ++i) s.q[query * head_dim + i] = q[i] * a.scale;
      s.y[query] = a.y + ((queries.row + row) * a.heads + queries.head + head) * head_dim;
      for (uint64_t i = 0; i < head_dim; ++i) s.y[query][i] = 0;
      s.maximum[query] = -__builtin_inff();
      s.total[query] = 0;
    }
  }
  // Blocks start where they would without a window: which rows are computed together changes nothing.
  const uint64_t first = static_cast<uint64_t>(seen.begin) / kPanel * kPanel, end = static_cast<uint64_t>(seen.end);
  for (uint64_t start = first; start < end; start += kPanel) {
    const uint64_t block = smaller(kPanel, end - start);
    const uint64_t cache_offset = start * cache_width + cache_column;
    pack_panel(static_cast<const Element*>(a.keys) + cache_offset, cache_width, block, head_dim, s.panel);
    for (uint64_t query = 0; query < queries.count(); query += kTileRows) {
      const uint64_t count = smaller(kTileRows, queries.count() - query);
      multiply_panel(count, s.q + query * head_dim, head_dim, s.panel, head_dim, s.tile);
      for (uint64_t r = 0; r < count; ++r) {
        const Range in_block = visible(seen_by((query + r) / queries.heads), start, block);
        if (!in_block.empty()) softmax_step(s, query + r, s.tile + r * kPanel, in_block, head_dim);
      }
    }
    const Element* values = static_cast<const Element*>(a.values) + cache_offset;
    bool all_visible = true;
    for (uint64_t row = 0; row < queries.rows; ++row)
      all_visible &= visible(seen_by(row), start, block).size() == block;
    for (uint64_t column = 0; column < head_dim; column += kPanel) {
      const uint64_t columns = smaller(kPanel, head_dim - column);
      widen_panel(values + column, cache_width, block, columns, s.panel);
      if (all_visible) {
        add_values(s, 0, queries.count(), {0, static_cast<int64_t>(block)}, column, columns);
        continue;
      }
      // Row by row: a probability of zero times what the row does not see would let its NaN or infinity in.
      for (uint64_t row = 0; row < queries.rows; ++row) {
        const Range in_block = visible(seen_by(row), start, block);
        if (in_block.empty()) continue;
        add_values(s, row * queries.heads, (row + 1) * queries.heads, in_block, column, columns);
      }
    }
  }
  for (uint64_t query = 0; query < queries.count(); ++query) {
    for (uint64_t i = 0; i < head_dim; ++i) s.y[query][i] /= s.total[query];
  }
}

template <typename Element>
void attention(const spillway_twin_context* context, const AttentionArgs& a) {
  const uint64_t group = a.heads / a.key_value_heads;
  // All heads of a group together, unless that leaves threads without work. How queries are grouped does not change
  // what each of them computes.
  uint64_t heads = smaller(group, kQueries);
  while (heads > 1 && uint64_t{a.rows} * a.key_value_heads * divide_up(group, heads) < context->threads)
    heads = divide_up(heads, 2);
  const uint64_t rows = smaller<uint64_t>(kQueries / heads, a.rows);
  const uint64_t head_pieces = divide_up(group, heads), row_pieces = divide_up(a.rows, rows);
  // Rows in the slowest place: neighbouring pieces cost about the same.
  const uint64_t count = row_pieces * a.key_value_heads * head_pieces;
  const int64_t end_position = int64_t{*a.position} + a.rows;
  uint64_t positions = end_position < 0 ? 0 : smaller<uint64_t>(static_cast<uint64_t>(end_position), a.context);
  if (a.window != 0) positions = smaller(positions, a.window + rows);
  const uint64_t cost = positions * a.head_dim / kLanes * (rows * heads + 4);
  parallel_for(context, count, grain_of(cost), [&](uint64_t begin, uint64_t end) {
    State state;
    for (uint64_t piece = begin; piece < end; ++piece) {
      const uint64_t first_head = piece % head_pieces * heads;
      const uint64_t key_value_head = piece / head_pieces % a.key_value_heads;
      const uint64_t row = piece / head_pieces / a.key_value_heads * rows;
      const Queries queries = {row, smaller(rows, a.rows - row), key_value_head * group + first_head,
                               smaller(heads, group - first_head)};
      attend<Element>(a, queries, state);
    }
  });
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void attention_f32(const spillway_twin_context* context, const void* arguments) {
  attention<float>(context, *static_cast<const AttentionArgs*>(arguments));
}
void attention_f16(const spillway_twin_context* context, const void* arguments) {
  attention<Float16>(context, *static_cast<const AttentionArgs*>(arguments));
}
void attention_bf16(const spillway_twin_context* context, const void* arguments) {
  attention<BFloat16>(context, *static_cast<const AttentionArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
