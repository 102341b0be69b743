#include "dot_products.hpp"
#include "linear_args.h"
#include "panel.hpp"
#include "twin.hpp"

namespace {

// From this many rows on, what panels save in arithmetic is more than what transposing the weight costs (measured).
constexpr uint64_t kPanelRows = 20;
// A panel of this depth takes 32 KiB at 16 lanes: it stays in the first-level cache, and on a small stack.
constexpr uint64_t kPanelDepth = 256;
// Rows that dot_block works on at once: times 4 outputs, as many sums as the registers hold.
constexpr uint64_t kDotRows = kLanes == 16 ? 4 : 2;

/// y[r, n … n + kOutputs) for kRows rows.
template <uint64_t kRows, uint64_t kOutputs, typename Element>
SPILLWAY_INLINE void dot_block(const LinearArgs& a, const Element* weight, const Element* bias, uint64_t row,
                               uint64_t n) {
  const uint64_t inputs = a.inputs;
  const Element* weights[kOutputs];
  for (uint64_t j = 0; j < kOutputs; ++j) weights[j] = weight + (n + j) * inputs;
  float results[kOutputs][kRows];
  dot_products(Activations{a.x + row * inputs, inputs}, weights, kOutputs * inputs, inputs, results);
  for (uint64_t j = 0; j < kOutputs; ++j) {
    for (uint64_t r = 0; r < kRows; ++r) {
      float result = results[j][r];
      if (bias) result += widen(bias[n + j]);
      float* y = a.y + (row + r) * a.outputs + n + j;
      *y = a.accumulate ? *y + result : result;
    }
  }
}

template <uint64_t kOutputs, typename Element>
void dot_rows(const LinearArgs& a, const Element* weight, const Element* bias, uint64_t n) {
  uint64_t row = 0;
  for (; row + kDotRows <= a.rows; row += kDotRows) dot_block<kDotRows, kOutputs>(a, weight, bias, row, n);
  for (; row < a.rows; ++row) dot_block<1, kOutputs>(a, weight, bias, row, n);
}

/// Few rows: bound by reading the weight, which is read once, in its own order.
template <typename Element>
void linear_by_dots(const spillway_twin_context* context, const LinearArgs& a) {
  const auto* weight = static_cast<const Element*>(a.weight);
  const auto* bias = static_cast<const Element*>(a.bias);
  const uint64_t groups = divide_up(a.outputs, 4);
  parallel_for(context, groups, grain_of(uint64_t{a.inputs} * a.rows * 4 / kLanes), [&](uint64_t begin, uint64_t end) {
    for (uint64_t group = begin; group < end; ++group) {
      const uint64_t n = group * 4;
      if (n + 4 <= a.outputs) {
        dot_rows<4>(a, weight, bias, n);
      } else {
        for (uint64_t j = n; j < a.outputs; ++j) dot_rows<1>(a, weight, bias, j);
      }
    }
  });
}

/// Many rows: bound by arithmetic; each piece of weight is widened once for all rows.
template <typename Element>
void linear_by_panels(const spillway_twin_context* context, const LinearArgs& a) {
  const auto* weight = static_cast<const Element*>(a.weight);
  const auto* bias = static_cast<const Element*>(a.bias);
  const uint64_t inputs = a.inputs, outputs = a.outputs, rows = a.rows;
  parallel_for(context, divide_up(outputs, kPanel), grain_of(inputs * rows * 2), [&](uint64_t begin, uint64_t end) {
    alignas(64) float panel[kPanelDepth * kPanel];
    alignas(64) float tile[kTileRows * kPanel];
    for (uint64_t n = begin * kPanel; n < smaller(end * kPanel, outputs); n += kPanel) {
      const uint64_t columns = smaller(kPanel, outputs - n);
      for (uint64_t k = 0; k < inputs; k += kPanelDepth) {
        const uint64_t depth = smaller(kPanelDepth, inputs - k);
        pack_panel(weight + n * inputs + k, inputs, columns, depth, panel);
        const bool add = k > 0 || a.accumulate;
        const bool add_bias = k == 0 && bias;
        for (uint64_t row = 0; row < rows; row += kTileRows) {
          const uint64_t count = smaller(kTileRows, rows - row);
          multiply_panel(count, a.x + row * inputs + k, inputs, panel, depth, tile);
          for (uint64_t r = 0; r < count; ++r) {
            float* y = a.y + (row + r) * outputs + n;
            for (uint64_t j = 0; j < columns; ++j) {
              float value = tile[r * kPanel + j];
              if (add_bias) value += widen(bias[n + j]);
              y[j] = add ? y[j] + value : value;
            }
          }
        }
      }
    }
  });
}

template <typename Element>
void linear(const spillway_twin_context* context, const LinearArgs& a) {
  if (a.rows < kPanelRows) {
    linear_by_dots<Element>(context, a);
  } else {
    linear_by_panels<Element>(context, a);
  }
}

}  // namespace

namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET {
void linear_f32(const spillway_twin_context* context, const void* arguments) {
  linear<float>(context, *static_cast<const LinearArgs*>(arguments));
}
void linear_f16(const spillway_twin_context* context, const void* arguments) {
  linear<Float16>(context, *static_cast<const LinearArgs*>(arguments));
}
void linear_bf16(const spillway_twin_context* context, const void* arguments) {
  linear<BFloat16>(context, *static_cast<const LinearArgs*>(arguments));
}
}  // namespace spillway::decoder::SPILLWAY_INSTRUCTION_SET
