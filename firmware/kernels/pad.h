// PAD of NHWC data.
#pragma once

#include <cstdint>
#include <cstring>

namespace tinyboost::kernels {

struct PadShape {
  int in[4];
  int before[4];
  int out[4];
};

inline void pad(const PadShape& s, int8_t value, const int8_t* input, int8_t* output) {
  std::memset(output, value, static_cast<size_t>(s.out[0] * s.out[1] * s.out[2] * s.out[3]));
  const size_t run = static_cast<size_t>(s.in[3]);
  for (int n = 0; n < s.in[0]; ++n) {
    for (int y = 0; y < s.in[1]; ++y) {
      for (int x = 0; x < s.in[2]; ++x, input += run) {
        const int row = (n + s.before[0]) * s.out[1] + y + s.before[1];
        const int pixel = row * s.out[2] + x + s.before[2];
        std::memcpy(output + pixel * s.out[3] + s.before[3], input, run);
      }
    }
  }
}

}  // namespace tinyboost::kernels
