// Vectors of floats for the host twins, as wide as the instruction set this file is compiled for.
//
// CMakeLists.txt compiles every *_host.cc once for each instruction set. Whatever has a linkable name in such a file
// could be the copy the linker keeps for all of them, and would then run AVX-512 on processors without it. So all of
// this is in an unnamed namespace, and no standard C++ header is included here or in a *_host.cc.
#pragma once

#include <stdint.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr uint64_t kLanes = 16;
#elif defined(__AVX2__)
constexpr uint64_t kLanes = 8;
#else
constexpr uint64_t kLanes = 4;
#endif

#define SPILLWAY_INLINE inline __attribute__((always_inline))

typedef float Lanes __attribute__((vector_size(kLanes * 4)));
typedef uint32_t WordLanes __attribute__((vector_size(kLanes * 4)));
typedef int32_t MaskLanes __attribute__((vector_size(kLanes * 4)));
typedef uint16_t HalfLanes __attribute__((vector_size(kLanes * 2)));

/// Stored bits of a 16-bit dtype: types of their own, so that templates tell them apart.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

SPILLWAY_INLINE Lanes broadcast(float value) { return value - Lanes{}; }

// Operands are aligned to their dtype only, so all loads and stores are unaligned ones; memcpy is how one says so.
template <typename Vector>
SPILLWAY_INLINE Vector load_bits(const void* from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

// gcc 12 makes two halves of a conversion by __builtin_convertvector and of some intrinsics that are not masked it
// warns in its own header: hence these.
SPILLWAY_INLINE WordLanes widen_words(HalfLanes bits) {
#if defined(__AVX512F__)
  return (WordLanes)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)bits);
#elif defined(__AVX2__)
  return (WordLanes)_mm256_cvtepu16_epi32((__m128i)bits);
#else
  return __builtin_convertvector(bits, WordLanes);
#endif
}

SPILLWAY_INLINE Lanes widen_bfloat16(HalfLanes bits) { return (Lanes)(widen_words(bits) << 16); }

SPILLWAY_INLINE Lanes widen_float16(HalfLanes bits) {
#if defined(__AVX512F__)
  return (Lanes)_mm512_maskz_cvtph_ps(0xffff, (__m256i)bits);
#elif defined(__F16C__)
  return (Lanes)_mm256_cvtph_ps((__m128i)bits);
#else
  const WordLanes word = widen_words(bits);
  // The 5-bit exponent lands where the 8-bit one is, 112 too low; the product repairs it, subnormals included.
  Lanes magnitude = (Lanes)((word & 0x7fffu) << 13) * 0x1p112f;
  // Infinity and NaN (exponent 31) became 2^16 and up: give them the exponent of all ones.
  WordLanes special = (WordLanes)((word & 0x7c00u) == 0x7c00u) & 0x7f800000u;
  return (Lanes)((WordLanes)magnitude | special | ((word & 0x8000u) << 16));
#endif
}

SPILLWAY_INLINE Lanes load(const float* from) { return load_bits<Lanes>(from); }
SPILLWAY_INLINE Lanes load(const Float16* from) { return widen_float16(load_bits<HalfLanes>(from)); }
SPILLWAY_INLINE Lanes load(const BFloat16* from) { return widen_bfloat16(load_bits<HalfLanes>(from)); }

SPILLWAY_INLINE void store(float* to, Lanes value) { __builtin_memcpy(to, &value, sizeof value); }

/// The first `count` elements (fewer than kLanes), then zeros; reads nothing behind them.
template <typename Element>
SPILLWAY_INLINE Lanes load_partial(const Element* from, uint64_t count) {
  Element padded[kLanes] = {};
  for (uint64_t i = 0; i < count; ++i) padded[i] = from[i];
  return load(padded);
}

SPILLWAY_INLINE void store_partial(float* to, Lanes value, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) to[i] = value[i];
}

SPILLWAY_INLINE Lanes select(MaskLanes mask, Lanes yes, Lanes no) {
  return (Lanes)(((MaskLanes)yes & mask) | ((MaskLanes)no & ~mask));
}

// Lane i of the result is lane `number` of both operands one after another. gcc has the vector form in every version
// we support, clang only the other one.
#if defined(__clang__)
#define SPILLWAY_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SPILLWAY_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, MaskLanes{__VA_ARGS__})
#endif

#if defined(__AVX512F__)
#define SPILLWAY_LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif defined(__AVX2__)
#define SPILLWAY_LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#else
#define SPILLWAY_LANE_NUMBERS 0, 1, 2, 3
#endif

struct Sum {
  SPILLWAY_INLINE Lanes operator()(Lanes a, Lanes b) const { return a + b; }
};
struct Maximum {
  SPILLWAY_INLINE Lanes operator()(Lanes a, Lanes b) const { return select((b > a) | (a != a), b, a); }
};

/// All lanes into each, in log2(kLanes) steps; kStep is half of the lanes.
template <typename Operation, int32_t kStep, int32_t... kLane>
SPILLWAY_INLINE Lanes reduce(Lanes value) {
  value = Operation()(value, SPILLWAY_SHUFFLE(value, value, (kLane ^ kStep)...));
  if constexpr (kStep > 1) return reduce<Operation, kStep / 2, kLane...>(value);
  return value;
}

SPILLWAY_INLINE float sum(Lanes value) { return reduce<Sum, kLanes / 2, SPILLWAY_LANE_NUMBERS>(value)[0]; }
/// NaN lanes are passed over, unless all are.
SPILLWAY_INLINE float maximum(Lanes value) { return reduce<Maximum, kLanes / 2, SPILLWAY_LANE_NUMBERS>(value)[0]; }

/// e^x to about 2 ulp. NaN stays NaN; results below 2^-125 become 0.
SPILLWAY_INLINE Lanes exponential(Lanes x) {
  constexpr float kLow = -86.6f, kHigh = 88.72283f;
  // x = n·ln 2 + r. Adding 1.5·2^23 rounds n into the low bits of the sum: no conversion, which NaN would break.
  const Lanes shifted = x * 1.44269504f + 12582912.0f;
  const Lanes n = shifted - 12582912.0f;
  const Lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
  // The Taylor series up to r^7: |r| <= ln(2)/2, so what is left out is below 1e-8.
  Lanes series = r * (1.0f / 5040) + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  // 2^(n-1), then twice that: 2^128 itself is no float, but e^88.7 is.
  const Lanes power = (Lanes)(((WordLanes)shifted + 126u) << 23);
  Lanes result = series * power * 2.0f;
  result = select(x > kHigh, broadcast(__builtin_inff()), result);
  return select(x < kLow, Lanes{}, result);
}

SPILLWAY_INLINE float widen(float value) { return value; }
SPILLWAY_INLINE float widen(BFloat16 value) {
  const uint32_t word = static_cast<uint32_t>(value.bits) << 16;
  float result;
  __builtin_memcpy(&result, &word, sizeof result);
  return result;
}
SPILLWAY_INLINE float widen(Float16 value) {
  HalfLanes bits{};
  bits[0] = value.bits;
  return widen_float16(bits)[0];
}

SPILLWAY_INLINE uint32_t word_of(float value) {
  uint32_t word;
  __builtin_memcpy(&word, &value, sizeof word);
  return word;
}

// Rounding to the nearest, ties to even; NaN stays NaN.
SPILLWAY_INLINE void narrow(float value, float* to) { *to = value; }

SPILLWAY_INLINE void narrow(float value, BFloat16* to) {
  const uint32_t word = word_of(value);
  if ((word & 0x7fffffffu) > 0x7f800000u) {
    to->bits = static_cast<uint16_t>((word >> 16) | 0x40u);  // quiet, or dropping the low bits could leave infinity
  } else {
    to->bits = static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
  }
}

SPILLWAY_INLINE void narrow(float value, Float16* to) {
#if defined(__F16C__)
  to->bits = static_cast<uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
#else
  const uint32_t word = word_of(value);
  const uint32_t sign = (word >> 16) & 0x8000u;
  const uint32_t magnitude = word & 0x7fffffffu;
  uint32_t bits;
  if (magnitude > 0x7f800000u) {
    bits = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // 65520: halfway past the largest half
    bits = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // 2^-14, the smallest normal half
    bits = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {
    // Adding 1/2 leaves the half's subnormal bits, rounded, at the end of the sum.
    float absolute;
    __builtin_memcpy(&absolute, &magnitude, sizeof absolute);
    bits = word_of(absolute + 0.5f) - 0x3f000000u;
  }
  to->bits = static_cast<uint16_t>(sign | bits);
#endif
}

template <typename Number>
SPILLWAY_INLINE Number smaller(Number a, Number b) {
  return a < b ? a : b;
}

SPILLWAY_INLINE uint64_t divide_up(uint64_t value, uint64_t by) { return value / by + (value % by != 0 ? 1 : 0); }

}  // namespace
