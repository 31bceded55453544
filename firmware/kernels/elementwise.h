// Operators that work on one element at a time: ADD, QUANTIZE, DEQUANTIZE.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/fixed_point.h"

namespace tinyboost::kernels {

// An operand of ADD: `stride` in elements per dimension is 0 where the operand is broadcast.
struct Addend {
  int32_t zero_point;
  Scale scale;
  int stride[4];
};

struct AddShape {
  int size[4];
};

inline constexpr int kAddHeadroom = 20;

constexpr int32_t scaled_addend(int8_t value, const Addend& addend) {
  return multiply((value - addend.zero_point) * (1 << kAddHeadroom), addend.scale);
}

// Both operands with 20 more bits are brought to twice the larger scale, added, and scaled down.
inline void add(const AddShape& shape, const Addend& left, const Addend& right, Scale scale,
                const Output& range, const int8_t* a, const int8_t* b, int8_t* output) {
  for (int i = 0; i < shape.size[0]; ++i) {
    for (int j = 0; j < shape.size[1]; ++j) {
      for (int k = 0; k < shape.size[2]; ++k) {
        const int8_t* x = a + i * left.stride[0] + j * left.stride[1] + k * left.stride[2];
        const int8_t* y = b + i * right.stride[0] + j * right.stride[1] + k * right.stride[2];
        for (int l = 0; l < shape.size[3]; ++l, x += left.stride[3], y += right.stride[3]) {
          *output++ = requantize(scaled_addend(*x, left) + scaled_addend(*y, right), scale, range);
        }
      }
    }
  }
}

// Values are rounded to nearest, ties away from zero, and saturate; NaN gives the lowest value.
inline void quantize(int count, float scale, int32_t zero_point, const float* input,
                     int8_t* output) {
  for (int i = 0; i < count; ++i) {
    const float value = std::round(input[i] / scale) + static_cast<float>(zero_point);
    output[i] = static_cast<int8_t>(value > -128.0f ? (value < 127.0f ? value : 127.0f) : -128.0f);
  }
}

inline void dequantize(int count, float scale, int32_t zero_point, const int8_t* input,
                       float* output) {
  for (int i = 0; i < count; ++i) output[i] = scale * static_cast<float>(input[i] - zero_point);
}

}  // namespace tinyboost::kernels
