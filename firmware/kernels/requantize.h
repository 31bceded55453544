// Requantization in a handful of instructions, equal to `requantize` of fixed_point.h where the
// generator has proven that the accumulators stay in bounds.
//
// With acc in (-2^30, 2^30) and e >= 1, TFLite's first rounding is x = (2 acc m + 2^31) >> 32. Its
// second, which rounds ties away from zero, is (x + 2^(e-1) - (x < 0)) >> e. The sign of acc may
// stand for that of x, for the results differ only at x = 0, where (2^(e-1) - 1) >> e is 0 too. The
// zero point z joins the addend as z << e. Where an activation clamps all below the zero point, the
// sign does not matter. Scales of 1/2 and more have no second rounding, e = 0: the addend is z
// alone. Those of 1 and more shift acc to the left first.
#pragma once

#include <cstdint>

#include "kernels/simd.h"

namespace tinyboost::kernels {

// kRelu: results below the zero point are clamped. kSaturate: the bounds are those of int8. kMixed:
// the scales of some channels are 1/2 or more: without a second rounding the sign does not matter
// to them, or their accumulators are shifted to the left.
template <bool kReluValue, bool kSaturateValue, bool kMixedValue, int kMinValue, int kMaxValue>
struct Clamping {
  static constexpr bool kRelu = kReluValue;
  static constexpr bool kSaturate = kSaturateValue;
  static constexpr bool kMixed = kMixedValue;
  static constexpr int kMin = kMinValue;
  static constexpr int kMax = kMaxValue;
};

struct FastScale {
  int32_t multiplier;
  int32_t addend;  // 2^(right - 1) + (zero point << right)
  int32_t right;
  int32_t left;  // Only where kMixed.
};

// Words of a stream that hold a scale.
inline constexpr int kScaleWords = 3;

template <typename Clamp>
inline FastScale fast_scale(const uint32_t* words) {
  const auto word = [words](int i) { return static_cast<int32_t>(words[i]); };
  if constexpr (Clamp::kMixed) return {word(0), word(1), word(2) & 0xFF, word(2) >> 8};
  return {word(0), word(1), word(2), 0};
}

// A shift whose result is known to fit.
inline int32_t shift_left(int32_t x, int32_t bits) {
  return static_cast<int32_t>(static_cast<uint32_t>(x) << bits);
}

template <typename Clamp>
inline int8_t requantize_doubled(int32_t doubled, FastScale scale) {
  if constexpr (Clamp::kMixed) doubled = shift_left(doubled, scale.left);
  int32_t addend = scale.addend;
  if constexpr (!Clamp::kRelu) {
    const int32_t rounds = Clamp::kMixed ? -scale.right >> 31 : -1;
    addend += doubled >> 31 & rounds;
  }
  const int32_t x = high_multiply_add_rounded(doubled, scale.multiplier, addend) >> scale.right;
  if (Clamp::kSaturate) return static_cast<int8_t>(saturate_int8(x));
  return static_cast<int8_t>(x < Clamp::kMin ? Clamp::kMin : (x > Clamp::kMax ? Clamp::kMax : x));
}

}  // namespace tinyboost::kernels
