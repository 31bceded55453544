// TRANSPOSE_CONV: every output gathers the inputs whose windows reach it.
#pragma once

#include <cstdint>

#include "kernels/fixed_point.h"
#include "kernels/simd.h"
#include "kernels/window.h"

namespace tinyboost::kernels {

// The window slides over the output, and takes one position for each pixel of the input.
struct TransposeConv {
  Window window;
  int depth;
  int channels;
  Output range;
};

template <int kDepth>
inline int32_t dot(const int8_t* a, const int8_t* b, int32_t sum) {
  int i = 0;
  for (; i + 4 <= kDepth; i += 4) {
    const uint32_t x = load_word(a + i), y = load_word(b + i);
    sum = multiply_add_lanes(widen_even(x), widen_even(y), sum);
    sum = multiply_add_lanes(widen_odd(x), widen_odd(y), sum);
  }
  for (; i < kDepth; ++i) sum += a[i] * b[i];
  return sum;
}

// weights: [channels, kernel height, kernel width, depth]; offsets: for each channel and tap, what
// the input zero point adds.
template <const TransposeConv& s>
void transpose_conv(const int8_t* weights, const int32_t* offsets, const Channel* channels,
                    const int8_t* input, int8_t* output) {
  constexpr Size kIn = s.window.out, kOut = s.window.in, kKernel = s.window.kernel;
  constexpr Size kStride = s.window.stride;
  for (int n = 0; n < s.window.batches; ++n, input += kIn.height * kIn.width * s.depth) {
    for (int y = 0; y < kOut.height; ++y) {
      const int bottom = y + s.window.padding.height;
      for (int x = 0; x < kOut.width; ++x) {
        const int right = x + s.window.padding.width;
        for (int c = 0; c < s.channels; ++c) {
          int32_t sum = channels[c].bias;
          for (int ky = bottom % kStride.height; ky < kKernel.height; ky += kStride.height) {
            const int row = (bottom - ky) / kStride.height;
            if (bottom < ky || row >= kIn.height) continue;
            for (int kx = right % kStride.width; kx < kKernel.width; kx += kStride.width) {
              const int column = (right - kx) / kStride.width;
              if (right < kx || column >= kIn.width) continue;
              const int tap = (c * kKernel.height + ky) * kKernel.width + kx;
              const int8_t* pixel = input + (row * kIn.width + column) * s.depth;
              sum = dot<s.depth>(pixel, weights + tap * s.depth, sum + offsets[tap]);
            }
          }
          *output++ = requantize(sum, channels[c].scale, s.range);
        }
      }
    }
  }
}

}  // namespace tinyboost::kernels
