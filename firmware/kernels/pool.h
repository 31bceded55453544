// AVERAGE_POOL_2D and MAX_POOL_2D; implicit padding is not counted.
#pragma once

#include <cstdint>

#include "kernels/fixed_point.h"
#include "kernels/simd.h"
#include "kernels/window.h"

namespace tinyboost::kernels {

// sum / count, rounded to nearest, ties away from zero.
constexpr int32_t rounded_quotient(int32_t sum, int32_t count) {
  return (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
}

enum class Pool {
  kAverage,
  kAverageOfFour,  // Four channels at a time: their number is a multiple of four, windows have <
                   // 256 taps.
  kMax,
};

// Reduces `taps` of every channel into one output pixel; `input` is the origin of the window.
template <Pool kKind>
inline void pool_pixel(const Window& w, int channels, const Output& range, Taps rows, Taps columns,
                       const int8_t* input, int8_t* output) {
  const int count = (rows.end - rows.begin) * (columns.end - columns.begin);
  for (int c = 0; c < channels; ++c) {
    int32_t result = kKind == Pool::kMax ? INT8_MIN : 0;
    for (int ky = rows.begin; ky < rows.end; ++ky) {
      const int8_t* tap = input + (ky * w.in.width + columns.begin) * channels + c;
      for (int kx = columns.begin; kx < columns.end; ++kx, tap += channels) {
        if (kKind == Pool::kMax) {
          result = *tap > result ? *tap : result;
        } else {
          result += *tap;
        }
      }
    }
    if (kKind == Pool::kAverage) result = rounded_quotient(result, count);
    output[c] = static_cast<int8_t>(clamp(result, range.min, range.max));
  }
}

template <>
inline void pool_pixel<Pool::kAverageOfFour>(const Window& w, int channels, const Output& range,
                                             Taps rows, Taps columns, const int8_t* input,
                                             int8_t* output) {
  const int width = columns.end - columns.begin;
  const int count = (rows.end - rows.begin) * width;
  const auto store = [&](int c, int32_t sum) {
    output[c] = static_cast<int8_t>(clamp(rounded_quotient(sum, count), range.min, range.max));
  };
  for (int c = 0; c < channels; c += 4) {
    uint32_t even = 0;
    uint32_t odd = 0;
    for (int ky = rows.begin; ky < rows.end; ++ky) {
      const int8_t* tap = input + (ky * w.in.width + columns.begin) * channels + c;
      for (int kx = 0; kx < width; ++kx, tap += channels) {
        const uint32_t bytes = load_word(tap);
        even = add_even(even, bytes);
        odd = add_odd(odd, bytes);
      }
    }
    store(c, low_lane(even));
    store(c + 1, low_lane(odd));
    store(c + 2, high_lane(even));
    store(c + 3, high_lane(odd));
  }
}

template <Pool kKind>
void pool2d(const Window& w, int channels, const Output& range, const int8_t* input,
            int8_t* output) {
  for (int n = 0; n < w.batches; ++n, input += w.in.height * w.in.width * channels) {
    for (int y = 0; y < w.out.height; ++y) {
      const int y0 = y * w.stride.height - w.padding.height;
      const Taps rows = taps_inside(y0, w.kernel.height, 1, w.in.height);
      for (int x = 0; x < w.out.width; ++x, output += channels) {
        const int x0 = x * w.stride.width - w.padding.width;
        const Taps columns = taps_inside(x0, w.kernel.width, 1, w.in.width);
        pool_pixel<kKind>(w, channels, range, rows, columns,
                          input + (y0 * w.in.width + x0) * channels, output);
      }
    }
  }
}

}  // namespace tinyboost::kernels
