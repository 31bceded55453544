// Fixed-point arithmetic of TFLite's int8 kernels (double rounding, as in gemmlowp).
#pragma once

#include <cstdint>

namespace tinyboost::kernels {

// A real factor as multiplier * 2^(shift - 31); multiplier lies in [2^30, 2^31) or is 0.
struct Scale {
  int32_t multiplier;
  int32_t shift;
};

// What turns the accumulator of an output channel into its int8 value. `bias` holds the layer's
// bias minus the input zero point times the sum of the channel's weights.
struct Channel {
  int32_t bias;
  Scale scale;
};

// Zero point of an output and the bounds of its fused activation.
struct Output {
  int32_t zero_point;
  int32_t min;
  int32_t max;
};

// a * b * 2^-31, rounded to nearest, ties upwards; saturates for -2^31 * -2^31.
constexpr int32_t rounding_doubling_high_mul(int32_t a, int32_t b) {
  if (a == INT32_MIN && b == INT32_MIN) return INT32_MAX;
  return static_cast<int32_t>((int64_t{a} * b + (int64_t{1} << 30)) >> 31);
}

// x * 2^-exponent, rounded to nearest, ties away from zero; exponent in [0, 31].
constexpr int32_t rounding_divide_by_power_of_two(int32_t x, int32_t exponent) {
  const int32_t mask = static_cast<int32_t>((uint32_t{1} << exponent) - 1);
  const int32_t threshold = static_cast<int32_t>(static_cast<uint32_t>(mask) >> 1) + (x < 0);
  return (x >> exponent) + ((x & mask) > threshold);
}

// x * scale with TFLite's two roundings; left shifts wrap around.
constexpr int32_t multiply(int32_t x, Scale scale) {
  const int32_t left = scale.shift > 0 ? scale.shift : 0;
  const int32_t right = scale.shift > 0 ? 0 : -scale.shift;
  const int32_t shifted = static_cast<int32_t>(static_cast<uint32_t>(x) << left);
  return rounding_divide_by_power_of_two(rounding_doubling_high_mul(shifted, scale.multiplier),
                                         right);
}

constexpr int32_t clamp(int32_t x, int32_t low, int32_t high) {
  return x < low ? low : (x > high ? high : x);
}

constexpr int8_t requantize(int32_t accumulator, Scale scale, const Output& output) {
  return static_cast<int8_t>(
      clamp(multiply(accumulator, scale) + output.zero_point, output.min, output.max));
}

}  // namespace tinyboost::kernels
