// ADD of two tensors of the same shape.
#pragma once

#include <cstdint>

#include "kernels/requantize.h"
#include "kernels/simd.h"

namespace tinyboost::kernels {

// TFLite gives both operands 20 more bits and brings them to twice the larger scale. For the
// operand of the larger scale that is a shift by 19, exactly; the other one is multiplied and
// rounded as in requantize.h, its values doubled beforehand.
struct AddScales {
  int32_t exact_addend;   // -(zero point << 19)
  int32_t scaled_addend;  // -(zero point << 21)
  int32_t multiplier;
  int shift;
  FastScale output;
};

// The scaled operand with 20 more bits, times its scale.
inline int32_t scaled_addend(int8_t scaled, const AddScales& s) {
  const int32_t doubled = scaled * (1 << 21) + s.scaled_addend;
  const int32_t rounding = s.shift == 0 ? 0 : (1 << s.shift >> 1) + (doubled >> 31);
  return high_multiply_add_rounded(doubled, s.multiplier, rounding) >> s.shift;
}

// The output may take the place of either operand.
template <const AddScales& s, int kCount, typename Clamp>
void add_same_shape(const int8_t* exact, const int8_t* scaled, int8_t* output) {
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) {
    const int32_t sum = exact[i] * (1 << 19) + s.exact_addend + scaled_addend(scaled[i], s);
    output[i] = requantize_doubled<Clamp>(sum * 2, s.output);
  }
}

}  // namespace tinyboost::kernels
