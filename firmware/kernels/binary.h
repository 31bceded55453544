// Operators on pairs of int8 values, one of which may be broadcast.
#pragma once

#include <cstdint>

#include "kernels/add.h"
#include "kernels/fixed_point.h"
#include "kernels/requantize.h"

namespace tinyboost::kernels {

// A loop over the output: how often, and elements from one turn to the next in both operands, 0
// where an operand is broadcast.
struct BroadcastStep {
  int count;
  int left;
  int right;
};

struct Broadcast {
  BroadcastStep steps[4];
};

// The output may take the place of an operand that is not broadcast.
template <const Broadcast& s, const auto& op>
void binary(const int8_t* left, const int8_t* right, int8_t* output) {
  for (int i = 0; i < s.steps[0].count; ++i) {
    for (int j = 0; j < s.steps[1].count; ++j) {
      for (int k = 0; k < s.steps[2].count; ++k) {
        const int8_t* x = left + i * s.steps[0].left + j * s.steps[1].left + k * s.steps[2].left;
        const int8_t* y =
            right + i * s.steps[0].right + j * s.steps[1].right + k * s.steps[2].right;
#pragma GCC unroll 4
        for (int l = 0; l < s.steps[3].count; ++l) {
          *output++ = op(x[l * s.steps[3].left], y[l * s.steps[3].right]);
        }
      }
    }
  }
}

// An operand with 20 more bits, brought to twice the larger of both scales.
struct Addend {
  int32_t zero_point;
  Scale scale;

  constexpr int32_t operator()(int8_t value) const {
    return multiply((value - zero_point) * (1 << 20), scale);
  }
};

// ADD, and SUB where kSign is -1.
template <int kSign>
struct Sum {
  Addend left;
  Addend right;
  Scale scale;
  Output range;

  constexpr int8_t operator()(int8_t x, int8_t y) const {
    return requantize(left(x) + kSign * right(y), scale, range);
  }
};

// A sum whose scales fit add.h. kSign: of the right operand; kExactIsLeft: whether the operand of
// the larger scale is the left one.
template <int kSign, bool kExactIsLeft, typename Clamp>
struct FastSum {
  AddScales scales;

  int8_t operator()(int8_t x, int8_t y) const {
    const int32_t exact = (kExactIsLeft ? x : y) * (1 << 19) + scales.exact_addend;
    const int32_t scaled = scaled_addend(kExactIsLeft ? y : x, scales);
    const int32_t sum = kExactIsLeft ? exact + kSign * scaled : scaled + kSign * exact;
    return requantize_doubled<Clamp>(2 * sum, scales.output);
  }
};

struct Product {
  int32_t left_zero_point;
  int32_t right_zero_point;
  Scale scale;
  Output range;

  constexpr int8_t operator()(int8_t x, int8_t y) const {
    return requantize((x - left_zero_point) * (y - right_zero_point), scale, range);
  }
};

// A product whose scale fits requantize.h.
template <typename Clamp>
struct FastProduct {
  int32_t left_zero_point;
  int32_t right_zero_point;
  FastScale scale;

  int8_t operator()(int8_t x, int8_t y) const {
    const int32_t product = (x - left_zero_point) * (y - right_zero_point);
    return requantize_doubled<Clamp>(2 * product, scale);
  }
};

// PRELU: values below zero times a slope.
struct Slope {
  int32_t zero_point;
  int32_t slope_zero_point;
  Scale above;
  Scale below;
  Output range;

  constexpr int8_t operator()(int8_t x, int8_t slope) const {
    const int32_t value = x - zero_point;
    if (value >= 0) return requantize(value, above, range);
    return requantize(value * (slope - slope_zero_point), below, range);
  }
};

struct Maximum {
  constexpr int8_t operator()(int8_t x, int8_t y) const { return x > y ? x : y; }
};

struct Minimum {
  constexpr int8_t operator()(int8_t x, int8_t y) const { return x < y ? x : y; }
};

}  // namespace tinyboost::kernels
