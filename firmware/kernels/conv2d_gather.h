// CONV_2D of every stride, dilation, padding, grouping and batch with `pair_matmul`.
#pragma once

#include <cstdint>

#include "kernels/conv2d.h"
#include "kernels/pair_matmul.h"
#include "kernels/widen.h"
#include "kernels/window.h"

namespace tinyboost::kernels {

// Group g of kGroupOut output channels reads group g of kGroupIn input channels. The inputs of each
// output are gathered into a column of their own. stream: those of `pair_matmul`, group by group.
// scratch: kBlock columns of kColumn elements.
template <const Window& w, int kGroupIn, int kGroupOut, int kGroups, typename Clamp, bool kDeep>
class Conv2dGather {
 public:
  static void run(const uint32_t* stream, int16_t zero_point, int16_t* scratch, const int8_t* input,
                  int8_t* output) {
    for (int group = 0; group < kGroups; ++group) {
      for (int pixel = 0; pixel + kBlock <= kPixels; pixel += kBlock) {
        compute<kBlock>(stream, pixel, zero_point, scratch, input, output);
      }
      if constexpr (kPixels % kBlock > 0) {
        constexpr int kRest = kPixels % kBlock;
        compute<kRest>(stream, kPixels - kRest, zero_point, scratch, input, output);
      }
      stream += kStreamWords;
      input += kGroupIn;
      output += kGroupOut;
    }
  }

 private:
  static constexpr int kIn = kGroups * kGroupIn;
  static constexpr int kOut = kGroups * kGroupOut;
  static constexpr int kPixels = w.batches * w.out.height * w.out.width;
  static constexpr int kColumn = round_up(w.kernel.height * w.kernel.width * kGroupIn, 4);
  static constexpr int kStreamWords =
      (kGroupOut + 1) / 2 * (kPairHeader + kColumn / 2 + kPairTrailer);

  template <int kColumns>
  static void compute(const uint32_t* stream, int pixel, int16_t zero_point, int16_t* scratch,
                      const int8_t* input, int8_t* output) {
    for (int i = 0; i < kColumns; ++i) {
      gather(pixel + i, zero_point, input, scratch + i * kColumn);
    }
    pair_matmul<kColumns, kColumn, kColumn, kGroupOut, Clamp, kDeep, kOut>(stream, scratch,
                                                                           output + pixel * kOut);
  }

  static void gather(int pixel, int16_t zero_point, const int8_t* input, int16_t* column) {
    const int row = pixel / w.out.width;
    const int x0 = pixel % w.out.width * w.stride.width - w.padding.width;
    const int y0 = row % w.out.height * w.stride.height - w.padding.height;
    const int8_t* image = input + row / w.out.height * (w.in.height * w.in.width * kIn);
    for (int ky = 0; ky < w.kernel.height; ++ky) {
      const int y = y0 + ky * w.dilation.height;
      for (int kx = 0; kx < w.kernel.width; ++kx, column += kGroupIn) {
        const int x = x0 + kx * w.dilation.width;
        if (y >= 0 && y < w.in.height && x >= 0 && x < w.in.width) {
          widen<kGroupIn>(image + (y * w.in.width + x) * kIn, column);
        } else {
          for (int i = 0; i < kGroupIn; ++i) column[i] = zero_point;
        }
      }
    }
  }
};

}  // namespace tinyboost::kernels
