// Requantization in a handful of instructions, equal to `requantize` of fixed_point.h where the
// generator has proven that the accumulators stay in bounds.
//
// With acc in (-2^30, 2^30) and e >= 1, TFLite's first rounding is x = (2 acc m + 2^31) >> 32. Its
// second, which rounds ties away from zero, is (x + 2^(e-1) - (x < 0)) >> e. The sign of acc may
// stand for that of x, for the results differ only at x = 0, where (2^(e-1) - 1) >> e is 0 too. The
// zero point z joins the addend as z << e. Where an activation clamps all below the zero point, the
// sign does not matter, and without a second rounding, e = 0, the addend is z alone.
#pragma once

#include <cstdint>

#include "kernels/simd.h"

namespace tinyboost::kernels {

// kRelu: results below the zero point are clamped. kSaturate: the bounds are those of int8.
template <bool kReluValue, bool kSaturateValue, int kMinValue, int kMaxValue>
struct Clamping {
  static constexpr bool kRelu = kReluValue;
  static constexpr bool kSaturate = kSaturateValue;
  static constexpr int kMin = kMinValue;
  static constexpr int kMax = kMaxValue;
};

struct FastScale {
  int32_t multiplier;
  int32_t addend;  // 2^(shift - 1) + (zero point << shift)
  int32_t shift;
};

// The scale that three words of a stream hold.
inline FastScale fast_scale(const uint32_t* words) {
  const auto word = [words](int i) { return static_cast<int32_t>(words[i]); };
  return {word(0), word(1), word(2)};
}

template <typename Clamp>
inline int8_t requantize_doubled(int32_t doubled, FastScale scale) {
  const int32_t addend = Clamp::kRelu ? scale.addend : scale.addend + (doubled >> 31);
  const int32_t x = high_multiply_add_rounded(doubled, scale.multiplier, addend) >> scale.shift;
  if (Clamp::kSaturate) return static_cast<int8_t>(saturate_int8(x));
  return static_cast<int8_t>(x < Clamp::kMin ? Clamp::kMin : (x > Clamp::kMax ? Clamp::kMax : x));
}

}  // namespace tinyboost::kernels
