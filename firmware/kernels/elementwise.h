// Between float and int8: QUANTIZE and DEQUANTIZE.
#pragma once

#include <cmath>
#include <cstdint>

namespace tinyboost::kernels {

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
