// RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR of NHWC data.
#pragma once

#include <cstdint>

#include "kernels/copy.h"

namespace tinyboost::kernels {

struct Resize {
  int batches;
  int in_height;
  int in_width;
  int out_height;
  int out_width;
  int depth;
};

// `rows` and `columns` say for each row and column of the output which one of the input it is.
template <const Resize& s>
void resize_nearest(const uint16_t* rows, const uint16_t* columns, const int8_t* input,
                    int8_t* output) {
  constexpr int kRow = s.out_width * s.depth;
  for (int n = 0; n < s.batches; ++n, input += s.in_height * s.in_width * s.depth) {
    for (int y = 0; y < s.out_height; ++y, output += kRow) {
      if (y > 0 && rows[y] == rows[y - 1]) {
        copy_run<kRow>(output - kRow, output);
        continue;
      }
      const int8_t* row = input + rows[y] * s.in_width * s.depth;
      for (int x = 0; x < s.out_width; ++x) {
        copy_run<s.depth>(row + columns[x] * s.depth, output + x * s.depth);
      }
    }
  }
}

// The two rows or columns of the input around one of the output, and the second one's share of it
// in 1/1024.
struct Neighbors {
  int16_t low;
  int16_t high;
  int16_t share;
};

// sum * 2^-20, rounded to nearest, ties away from zero.
constexpr int8_t interpolated(int32_t sum) {
  const int32_t half = 1 << 19;
  return static_cast<int8_t>(sum > 0 ? (sum + half) >> 20 : -((half - sum) >> 20));
}

template <const Resize& s>
void resize_bilinear(const Neighbors* rows, const Neighbors* columns, const int8_t* input,
                     int8_t* output) {
  for (int n = 0; n < s.batches; ++n, input += s.in_height * s.in_width * s.depth) {
    for (int y = 0; y < s.out_height; ++y) {
      const int8_t* above = input + rows[y].low * s.in_width * s.depth;
      const int8_t* below = input + rows[y].high * s.in_width * s.depth;
      const int32_t down = rows[y].share, up = 1024 - down;
      for (int x = 0; x < s.out_width; ++x, output += s.depth) {
        const int left = columns[x].low * s.depth, right = columns[x].high * s.depth;
        const int32_t to_right = columns[x].share, to_left = 1024 - to_right;
        const int32_t weights[4] = {up * to_left, up * to_right, down * to_left, down * to_right};
        for (int c = 0; c < s.depth; ++c) {
          output[c] = interpolated(above[left + c] * weights[0] + above[right + c] * weights[1] +
                                   below[left + c] * weights[2] + below[right + c] * weights[3]);
        }
      }
    }
  }
}

}  // namespace tinyboost::kernels
