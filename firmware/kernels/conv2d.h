// CONV_2D and FULLY_CONNECTED with `pair_matmul`.
#pragma once

#include <cstdint>

#include "kernels/pair_matmul.h"
#include "kernels/widen.h"
#include "kernels/window.h"

namespace tinyboost::kernels {

// Columns that are computed together.
inline constexpr int kBlock = 3;

constexpr int round_up(int value, int multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

template <int kColumns, int kIn, int kOut, typename Clamp, bool kDeep>
inline void pointwise_block(const uint32_t* stream, int pixel, int16_t* scratch,
                            const int8_t* input, int8_t* output) {
  constexpr int kDepth = round_up(kIn, 4);
  if constexpr (kDepth == kIn) {
    widen<kColumns * kIn>(input + pixel * kIn, scratch);
  } else {
    for (int i = 0; i < kColumns; ++i) widen<kIn>(input + (pixel + i) * kIn, scratch + i * kDepth);
  }
  pair_matmul<kColumns, kDepth, kDepth, kOut, Clamp, kDeep>(stream, scratch, output + pixel * kOut);
}

// A 1x1 convolution over kPixels pixels, or a matrix product with kPixels rows. The output may take
// the place of the input: pixels are visited in the order in which none is overwritten before it is
// read. scratch: min(kBlock, kPixels) * kIn elements, each pixel's rounded up to 4.
template <int kPixels, int kIn, int kOut, typename Clamp, bool kDeep>
void pointwise(const uint32_t* stream, int16_t* scratch, const int8_t* input, int8_t* output) {
  constexpr int kRest = kPixels % kBlock;
  constexpr int kBlocks = kPixels / kBlock;
  const auto block = [&](int index) {
    pointwise_block<kBlock, kIn, kOut, Clamp, kDeep>(stream, index * kBlock, scratch, input,
                                                     output);
  };
  const auto rest = [&] {
    if constexpr (kRest > 0) {
      pointwise_block<kRest, kIn, kOut, Clamp, kDeep>(stream, kPixels - kRest, scratch, input,
                                                      output);
    }
  };
  if constexpr (kOut > kIn) {
    rest();
    for (int i = kBlocks - 1; i >= 0; --i) block(i);
  } else {
    for (int i = 0; i < kBlocks; ++i) block(i);
    rest();
  }
}

// The int16 copy of the rows that a row of outputs reads. It holds, column by column, the kernel's
// rows of all channels, so that the inputs of an output lie together. Each input row is widened
// once: going on to the next output, rows that are needed again move up.
template <const Window& w, int kChannels>
class Band {
 public:
  static constexpr int kColumn = round_up(w.kernel.height * kChannels, kChannels % 4 == 0 ? 4 : 2);
  static constexpr int kDepth = round_up(w.kernel.width * kColumn, 4);
  static constexpr int kStep = w.stride.width * kColumn;
  static constexpr int kColumns = (w.out.width - 1) * w.stride.width + w.kernel.width;
  // Loads of the last output may reach beyond the last column.
  static constexpr int kElements = kColumns * kColumn + kDepth - w.kernel.width * kColumn;

  Band(int16_t* elements, const int8_t* input, int16_t zero_point)
      : elements_(elements), input_(input), zero_point_(zero_point) {
    for (int i = 0; i < kElements; ++i) elements_[i] = zero_point_;
    for (int row = 0; row < kNew0; ++row) load_row(kKernel - kNew0 + row, next_row_++);
  }

  // Goes on to the next row of outputs.
  void advance() {
    if constexpr (kKept > 0) {
      for (int x = kBegin; x < kEnd; ++x) {
        move_down<kKept * kChannels, kStride * kChannels>(elements_ + x * kColumn);
      }
    } else {
      next_row_ += kStride - kKernel;
    }
    for (int row = kKept > 0 ? kKept : 0; row < kKernel; ++row) load_row(row, next_row_++);
  }

  const int16_t* elements() const { return elements_; }

 private:
  static constexpr int kKernel = w.kernel.height;
  static constexpr int kStride = w.stride.height;
  static constexpr int kKept = kKernel - kStride;
  // Rows of the first band that are not padding above the data.
  static constexpr int kNew0 = kKernel - w.padding.height;
  // Columns of the band that lie inside the data.
  static constexpr int kBegin = w.padding.width;
  static constexpr int kEnd = kBegin + w.in.width < kColumns ? kBegin + w.in.width : kColumns;

  void load_row(int band_row, int row) {
    int16_t* column = elements_ + kBegin * kColumn + band_row * kChannels;
    if (row < w.in.height) {
      const int8_t* pixel = input_ + row * w.in.width * kChannels;
      for (int x = kBegin; x < kEnd; ++x, column += kColumn, pixel += kChannels) {
        widen<kChannels>(pixel, column);
      }
    } else {
      for (int x = kBegin; x < kEnd; ++x, column += kColumn) {
        for (int i = 0; i < kChannels; ++i) column[i] = zero_point_;
      }
    }
  }

  int16_t* elements_;
  const int8_t* input_;
  int16_t zero_point_;
  int next_row_ = 0;
};

// A convolution without dilation. scratch: Band::kElements elements.
template <const Window& w, int kIn, int kOut, typename Clamp, bool kDeep>
void conv2d(const uint32_t* stream, int16_t input_zero_point, int16_t* scratch, const int8_t* input,
            int8_t* output) {
  using Rows = Band<w, kIn>;
  constexpr int kRest = w.out.width % kBlock;
  Rows band(scratch, input, input_zero_point);
  for (int y = 0; y < w.out.height; ++y) {
    if (y > 0) band.advance();
    const int16_t* columns = band.elements();
    if constexpr (w.out.width >= kBlock) {
      for (int x = 0; x < w.out.width / kBlock; ++x) {
        pair_matmul<kBlock, Rows::kDepth, Rows::kStep, kOut, Clamp, kDeep>(stream, columns, output);
        columns += kBlock * Rows::kStep;
        output += kBlock * kOut;
      }
    }
    if constexpr (kRest > 0) {
      pair_matmul<kRest, Rows::kDepth, Rows::kStep, kOut, Clamp, kDeep>(stream, columns, output);
      output += kRest * kOut;
    }
  }
}

}  // namespace tinyboost::kernels
