// Products of small fragments on the matrix units, sums in f32.
//
// A warp multiplies 16 rows of activations by 8 columns (outputs, keys or value dimensions) over 16 inputs. Lane
// (g, q) = (lane / 4, lane % 4) brings inputs 4q … 4q + 3 of rows g and g + 8 and of column g: four neighbours, so one
// load each. Which input the hardware takes for which does not matter, as long as both sides agree. It gets the sums
// of rows g and g + 8 (halves of `sums`) at columns 2q and 2q + 1.
#pragma once

#include <type_traits>

#include "element.cuh"

namespace spillway::decoder::cuda {

__device__ __forceinline__ void multiply_tf32(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void multiply_bf16(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// tf32 keeps 11 bits of the 24 of an f32: the first of two parts. f16 and bf16 have no more, and are exact.
__device__ __forceinline__ uint32_t leading(float value) { return __float_as_uint(value) & 0xffffe000u; }
__device__ __forceinline__ uint32_t trailing(float value) { return leading(value - __uint_as_float(leading(value))); }

/// Rows g and g + 8 of a fragment, in two tf32 parts whose products add up to nearly the f32 product ("3xTF32", as in
/// CUTLASS). An infinite activation becomes NaN: infinity minus its leading part.
struct SplitRows {
  uint32_t lead[2][4], trail[2][4];

  __device__ __forceinline__ SplitRows(const float (&low)[4], const float (&high)[4]) {
#pragma unroll
    for (uint32_t t = 0; t < 2; ++t) {
      const float order[4] = {low[2 * t], high[2 * t], low[2 * t + 1], high[2 * t + 1]};
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        lead[t][i] = leading(order[i]);
        trail[t][i] = trailing(order[i]);
      }
    }
  }
};

/// kExactColumn: the column's values have no more than 11 bits. The small products first.
template <bool kExactColumn>
__device__ __forceinline__ void multiply_split(float (&sums)[4], const SplitRows& rows, const float (&column)[4]) {
#pragma unroll
  for (uint32_t t = 0; t < 2; ++t) {
    const float first = column[2 * t], second = column[2 * t + 1];
    if constexpr (!kExactColumn) multiply_tf32(sums, rows.lead[t], trailing(first), trailing(second));
    multiply_tf32(sums, rows.trail[t], leading(first), leading(second));
    multiply_tf32(sums, rows.lead[t], leading(first), leading(second));
  }
}

/// The other way round: it is the column that is in parts, and the rows' values that are exact or not.
template <bool kExactRows>
__device__ __forceinline__ void multiply_split_column(float (&sums)[4], const float (&low)[4], const float (&high)[4],
                                                      const float (&column)[4]) {
#pragma unroll
  for (uint32_t t = 0; t < 2; ++t) {
    const float order[4] = {low[2 * t], high[2 * t], low[2 * t + 1], high[2 * t + 1]};
    uint32_t lead[4], trail[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) lead[i] = leading(order[i]), trail[i] = trailing(order[i]);
    const float first = column[2 * t], second = column[2 * t + 1];
    if constexpr (!kExactRows) multiply_tf32(sums, trail, leading(first), leading(second));
    multiply_tf32(sums, lead, trailing(first), trailing(second));
    multiply_tf32(sums, lead, leading(first), leading(second));
  }
}

template <typename Element>
inline constexpr bool kExactInTf32 = sizeof(Element) == 2;

__device__ __forceinline__ uint32_t pack_bf16(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

/// Two neighbouring floats as kParts bf16 each, largest first, whose sum is the float: three parts exactly, two to
/// 2^-17.
template <uint32_t kParts>
struct Bf16Parts {
  uint32_t pairs[kParts];

  __device__ __forceinline__ Bf16Parts(float first, float second) {
#pragma unroll
    for (uint32_t part = 0; part < kParts; ++part) {
      const uint32_t pair = pairs[part] = pack_bf16(first, second);
      first -= __uint_as_float(pair << 16);
      second -= __uint_as_float(pair & 0xffff0000u);
    }
  }
  __device__ __forceinline__ uint32_t operator[](uint32_t part) const { return pairs[part]; }
};

}  // namespace spillway::decoder::cuda
