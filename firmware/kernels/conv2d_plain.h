// CONV_2D and DEPTHWISE_CONV_2D in the plainest form: every stride, dilation, padding and grouping.
#pragma once

#include <cstdint>

#include "kernels/fixed_point.h"
#include "kernels/window.h"

namespace tinyboost::kernels {

// Output channel c reads the `group_in` input channels from (c / group_out) * group_in on.
struct Channels {
  int in;
  int out;
  int group_in;
  int group_out;
};

// weights: [out, kernel height, kernel width, group_in]. Padding has the input's zero point as
// value, because the biases hold the zero point's share of all taps.
inline void conv2d_plain(const Window& w, const Channels& c, int32_t input_zero_point,
                         const Output& out_range, const int8_t* weights, const Channel* channels,
                         const int8_t* input, int8_t* output) {
  for (int n = 0; n < w.batches; ++n, input += w.in.height * w.in.width * c.in) {
    for (int y = 0; y < w.out.height; ++y) {
      const int y0 = y * w.stride.height - w.padding.height;
      const Taps rows = taps_inside(y0, w.kernel.height, w.dilation.height, w.in.height);
      for (int x = 0; x < w.out.width; ++x) {
        const int x0 = x * w.stride.width - w.padding.width;
        const Taps columns = taps_inside(x0, w.kernel.width, w.dilation.width, w.in.width);
        for (int o = 0; o < c.out; ++o) {
          const int8_t* group = input + o / c.group_out * c.group_in;
          const int8_t* tap = weights + o * w.kernel.height * w.kernel.width * c.group_in;
          int32_t sum = channels[o].bias;
          for (int ky = 0; ky < w.kernel.height; ++ky) {
            for (int kx = 0; kx < w.kernel.width; ++kx) {
              const bool inside =
                  ky >= rows.begin && ky < rows.end && kx >= columns.begin && kx < columns.end;
              const int pixel =
                  (y0 + ky * w.dilation.height) * w.in.width + x0 + kx * w.dilation.width;
              for (int i = 0; i < c.group_in; ++i) {
                sum += *tap++ * (inside ? group[pixel * c.in + i] : input_zero_point);
              }
            }
          }
          *output++ = requantize(sum, channels[o].scale, out_range);
        }
      }
    }
  }
}

}  // namespace tinyboost::kernels
