// The Cortex-M7's DSP instructions that the kernels use, and the same arithmetic in portable C++.
//
// A word holds two signed 16-bit lanes, the low one first in memory. The multiplications are
// volatile to keep them in the order of the source, in which registers suffice; the compiler's own
// order spills.
#pragma once

#include <cstdint>

#if !defined(__ARM_FEATURE_DSP)
#include <cstring>
#endif

namespace tinyboost::kernels {

constexpr int32_t low_lane(uint32_t word) { return static_cast<int16_t>(word & 0xFFFFu); }
constexpr int32_t high_lane(uint32_t word) { return static_cast<int16_t>(word >> 16); }

#if defined(__ARM_FEATURE_DSP)

// Memory that other types were stored to.
using AliasedWord [[gnu::may_alias]] = uint32_t;
using AliasedPair [[gnu::may_alias, gnu::aligned(4)]] = uint64_t;

// Bytes 0 and 2, sign-extended into the lanes.
inline uint32_t widen_even(uint32_t bytes) {
  uint32_t lanes;
  asm volatile("sxtb16 %0, %1" : "=r"(lanes) : "r"(bytes));
  return lanes;
}

// Bytes 1 and 3, sign-extended into the lanes.
inline uint32_t widen_odd(uint32_t bytes) {
  uint32_t lanes;
  asm("sxtb16 %0, %1, ror #8" : "=r"(lanes) : "r"(bytes));
  return lanes;
}

// Adds bytes 0 and 2 to the lanes of `sum`.
inline uint32_t add_even(uint32_t sum, uint32_t bytes) {
  uint32_t lanes;
  asm("sxtab16 %0, %1, %2" : "=r"(lanes) : "r"(sum), "r"(bytes));
  return lanes;
}

// Adds bytes 1 and 3 to the lanes of `sum`.
inline uint32_t add_odd(uint32_t sum, uint32_t bytes) {
  uint32_t lanes;
  asm("sxtab16 %0, %1, %2, ror #8" : "=r"(lanes) : "r"(sum), "r"(bytes));
  return lanes;
}

// sum + a.low * b.low + a.high * b.high
inline int32_t multiply_add_lanes(uint32_t a, uint32_t b, int32_t sum) {
  int32_t result;
  asm volatile("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

// sum + a.low * b.high
inline int32_t multiply_add_low_high(uint32_t a, uint32_t b, int32_t sum) {
  int32_t result;
  asm volatile("smlabt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

// sum + a.high * b.low
inline int32_t multiply_add_high_low(uint32_t a, uint32_t b, int32_t sum) {
  int32_t result;
  asm volatile("smlatb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

// addend + (a * b + 2^31) >> 32
inline int32_t high_multiply_add_rounded(int32_t a, int32_t b, int32_t addend) {
  int32_t result;
  asm("smmlar %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
  return result;
}

inline int32_t saturate_int8(int32_t x) {
  int32_t result;
  asm("ssat %0, #8, %1" : "=r"(result) : "r"(x));
  return result;
}

inline uint32_t load_word(const void* address) { return *static_cast<const AliasedWord*>(address); }

inline void store_word(void* address, uint32_t word) { *static_cast<AliasedWord*>(address) = word; }

// The address is a multiple of 4.
inline void load_pair(const void* address, uint32_t& first, uint32_t& second) {
  asm volatile("ldrd %0, %1, %2"
               : "=r"(first), "=r"(second)
               : "m"(*static_cast<const AliasedPair*>(address)));
}

// The address is a multiple of 4.
inline void store_pair(void* address, uint32_t first, uint32_t second) {
  asm("strd %1, %2, %0" : "=m"(*static_cast<AliasedPair*>(address)) : "r"(first), "r"(second));
}

#else

constexpr int32_t wrap(uint32_t word) { return static_cast<int32_t>(word); }

inline uint32_t widen_even(uint32_t bytes) {
  const uint32_t low = static_cast<uint32_t>(int32_t{static_cast<int8_t>(bytes & 0xFFu)});
  const uint32_t high = static_cast<uint32_t>(int32_t{static_cast<int8_t>((bytes >> 16) & 0xFFu)});
  return (low & 0xFFFFu) | (high << 16);
}

inline uint32_t widen_odd(uint32_t bytes) { return widen_even(bytes >> 8); }

inline uint32_t add_even(uint32_t sum, uint32_t bytes) {
  const uint32_t lanes = widen_even(bytes);
  return ((sum + lanes) & 0xFFFFu) | ((sum & 0xFFFF0000u) + (lanes & 0xFFFF0000u));
}

inline uint32_t add_odd(uint32_t sum, uint32_t bytes) { return add_even(sum, bytes >> 8); }

inline int32_t multiply_add_lanes(uint32_t a, uint32_t b, int32_t sum) {
  const uint32_t low = static_cast<uint32_t>(low_lane(a) * low_lane(b));
  const uint32_t high = static_cast<uint32_t>(high_lane(a) * high_lane(b));
  return wrap(static_cast<uint32_t>(sum) + low + high);
}

inline int32_t multiply_add_low_high(uint32_t a, uint32_t b, int32_t sum) {
  return wrap(static_cast<uint32_t>(sum) + static_cast<uint32_t>(low_lane(a) * high_lane(b)));
}

inline int32_t multiply_add_high_low(uint32_t a, uint32_t b, int32_t sum) {
  return wrap(static_cast<uint32_t>(sum) + static_cast<uint32_t>(high_lane(a) * low_lane(b)));
}

inline int32_t high_multiply_add_rounded(int32_t a, int32_t b, int32_t addend) {
  const int64_t product = (int64_t{a} * b + (int64_t{1} << 31)) >> 32;
  return wrap(static_cast<uint32_t>(addend) + static_cast<uint32_t>(product));
}

inline int32_t saturate_int8(int32_t x) { return x < -128 ? -128 : (x > 127 ? 127 : x); }

inline uint32_t load_word(const void* address) {
  uint32_t word;
  std::memcpy(&word, address, sizeof word);
  return word;
}

inline void store_word(void* address, uint32_t word) { std::memcpy(address, &word, sizeof word); }

inline void load_pair(const void* address, uint32_t& first, uint32_t& second) {
  first = load_word(address);
  second = load_word(static_cast<const uint8_t*>(address) + 4);
}

inline void store_pair(void* address, uint32_t first, uint32_t second) {
  store_word(address, first);
  store_word(static_cast<uint8_t*>(address) + 4, second);
}

#endif

}  // namespace tinyboost::kernels
