// SOFTMAX in fixed point, after gemmlowp: the exponentials come from a table, the reciprocal of
// their sum from Newton's method.
#pragma once

#include <cstdint>

#include "kernels/fixed_point.h"

namespace tinyboost::kernels {

// 1 / (1 + x) in Q0.31 for x in [0, 1) in Q0.31.
inline int32_t reciprocal_of_one_plus(int32_t x) {
  constexpr int32_t k48Over17 = 1515870810;        // Q2.29
  constexpr int32_t kMinus32Over17 = -1010580540;  // Q2.29
  constexpr int32_t kOne = 1 << 29;                // Q2.29
  // (x + 1) / 2, rounded; never negative.
  const int32_t half_denominator = static_cast<int32_t>((int64_t{x} + INT32_MAX + 1) / 2);
  int32_t estimate = k48Over17 + rounding_doubling_high_mul(half_denominator, kMinus32Over17);
  for (int i = 0; i < 3; ++i) {
    const int32_t error = kOne - rounding_doubling_high_mul(half_denominator, estimate);
    // The product is Q4.27; two bits to the left it is Q2.29 again.
    estimate += rounding_doubling_high_mul(estimate, error) * 4;
  }
  // Half of the Q2.29 estimate is Q1.30; it saturates in Q0.31.
  return estimate >= (1 << 30) ? INT32_MAX : estimate * 2;
}

// `exponentials[d]` is exp(-d * beta * scale) in Q0.31 for d < size, and 0 beyond. The output has
// scale 1 / 256 and zero point -128.
inline void softmax(int rows, int depth, const int32_t* exponentials, int size, const int8_t* input,
                    int8_t* output) {
  for (int row = 0; row < rows; ++row, input += depth, output += depth) {
    int32_t largest = INT8_MIN;
    for (int i = 0; i < depth; ++i) largest = input[i] > largest ? input[i] : largest;
    int32_t sum = 0;  // Q12.19
    for (int i = 0; i < depth; ++i) {
      const int32_t d = largest - input[i];
      if (d < size) sum += rounding_divide_by_power_of_two(exponentials[d], 12);
    }
    const int headroom = __builtin_clz(static_cast<uint32_t>(sum));
    const int32_t fraction =
        static_cast<int32_t>((static_cast<uint32_t>(sum) << headroom) - (uint32_t{1} << 31));
    const int32_t inverse = reciprocal_of_one_plus(fraction);
    // Beyond 31 more than 512 classes are about as likely: each is less than half a step.
    const int shift = 12 - headroom + 31 - 8;
    for (int i = 0; i < depth; ++i) {
      const int32_t d = largest - input[i];
      int32_t value = 0;
      if (d < size && shift <= 31) {
        const int32_t product = rounding_doubling_high_mul(inverse, exponentials[d]);
        value = rounding_divide_by_power_of_two(product, shift);
      }
      output[i] = static_cast<int8_t>(clamp(value - 128, INT8_MIN, INT8_MAX));
    }
  }
}

}  // namespace tinyboost::kernels
