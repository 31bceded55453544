// DEPTHWISE_CONV_2D, one channel at a time.
//
// Each channel's rows are copied, as int16 with their padding, into a plane of their own, so that
// neighbouring taps share a word. Outputs are computed in pairs. Weights and biases come doubled,
// as `requantize_doubled` wants the accumulators.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/requantize.h"
#include "kernels/simd.h"
#include "kernels/window.h"

namespace tinyboost::kernels {

// The accumulators of two horizontally neighbouring outputs.
struct OutputPair {
  int32_t first;
  int32_t second;
};

// A 3x3 kernel in six registers: of each row, taps 0 and 1, and taps 1 and 2.
template <int kStride, int kPitch>
class Taps3x3 {
 public:
  static constexpr int kWords = 6;

  explicit Taps3x3(const uint32_t* words) {
#pragma GCC unroll 3
    for (int y = 0; y < 3; ++y) load_pair(words + 2 * y, taps01_[y], taps12_[y]);
  }

  OutputPair pair(const int16_t* x, int32_t bias) const {
    OutputPair sum{bias, bias};
#pragma GCC unroll 3
    for (int y = 0; y < 3; ++y, x += kPitch) {
      uint32_t x01, x23;
      load_pair(x, x01, x23);
      sum.first = multiply_add_lanes(x01, taps01_[y], sum.first);
      if constexpr (kStride == 1) {
        sum.second = multiply_add_high_low(x01, taps01_[y], sum.second);
        sum.first = multiply_add_low_high(x23, taps12_[y], sum.first);
        sum.second = multiply_add_lanes(x23, taps12_[y], sum.second);
      } else {
        const uint32_t x45 = load_word(x + 4);
        sum.first = multiply_add_low_high(x23, taps12_[y], sum.first);
        sum.second = multiply_add_lanes(x23, taps01_[y], sum.second);
        sum.second = multiply_add_low_high(x45, taps12_[y], sum.second);
      }
    }
    return sum;
  }

  int32_t single(const int16_t* x, int32_t bias) const {
#pragma GCC unroll 3
    for (int y = 0; y < 3; ++y, x += kPitch) {
      uint32_t x01, x23;
      load_pair(x, x01, x23);
      bias = multiply_add_lanes(x01, taps01_[y], bias);
      bias = multiply_add_low_high(x23, taps12_[y], bias);
    }
    return bias;
  }

 private:
  uint32_t taps01_[3];
  uint32_t taps12_[3];
};

// Any other kernel; its words are read again for each pair of outputs. With stride 1 two words meet
// each word of a row: the taps as the first output sees them, and as the second does, one to the
// right. With even strides both see the same.
template <int kHeight, int kWidth, int kStride, int kPitch>
class AnyTaps {
 public:
  static constexpr int kSpan = kStride == 1 ? kWidth / 2 + 1 : (kWidth + 1) / 2;
  static constexpr int kPhases = kStride == 1 ? 2 : 1;
  static constexpr int kWords = kHeight * kSpan * kPhases;

  explicit AnyTaps(const uint32_t* words) : words_(words) {}

  OutputPair pair(const int16_t* x, int32_t bias) const {
    OutputPair sum{bias, bias};
    const uint32_t* taps = words_;
    for (int y = 0; y < kHeight; ++y, x += kPitch) {
#pragma GCC unroll 4
      for (int i = 0; i < kSpan; ++i, taps += kPhases) {
        const uint32_t here = load_word(x + 2 * i);
        const uint32_t there = kStride == 1 ? here : load_word(x + 2 * i + kStride);
        sum.first = multiply_add_lanes(here, taps[0], sum.first);
        sum.second = multiply_add_lanes(there, taps[kPhases - 1], sum.second);
      }
    }
    return sum;
  }

  int32_t single(const int16_t* x, int32_t bias) const {
    const uint32_t* taps = words_;
    for (int y = 0; y < kHeight; ++y, x += kPitch) {
      for (int i = 0; i < kSpan; ++i, taps += kPhases) {
        bias = multiply_add_lanes(load_word(x + 2 * i), taps[0], bias);
      }
    }
    return bias;
  }

 private:
  const uint32_t* words_;
};

// kRows: rows of outputs for which a plane holds the inputs. stream: for each output channel
// doubled bias, multiplier, addend, shift and the words of its taps. scratch: kPlaneRows * kPitch
// elements. With kMultiplier 1 the output may take the place of the input where no row is
// overwritten before it is read.
template <const Window& w, int kChannels, int kMultiplier, int kRows, typename Clamp>
class Depthwise {
 public:
  static void run(const uint32_t* stream, int16_t zero_point, int16_t* plane, const int8_t* input,
                  int8_t* output) {
    fill(plane, kPlaneRows * kPitch, zero_point);
    for (int c = 0; c < kChannels; ++c, ++input) {
      for (int y = 0; y < w.out.height; y += kRows) {
        load(input, y, zero_point, plane);
        const int rows = w.out.height - y < kRows ? w.out.height - y : kRows;
        int8_t* corner = output + y * w.out.width * kOut;
        for (int m = 0; m < kMultiplier; ++m) {
          compute(stream + m * (kHeader + Taps::kWords), plane, rows, corner + m);
        }
      }
      stream += kMultiplier * (kHeader + Taps::kWords);
      output += kMultiplier;
    }
  }

 private:
  static constexpr int kStride = w.stride.width;
  static constexpr int kOut = kChannels * kMultiplier;
  static constexpr int kSpan = kStride == 1 ? w.kernel.width / 2 + 1 : (w.kernel.width + 1) / 2;
  static constexpr int kPitch = ((w.out.width - 1) * kStride + 2 * kSpan + 1) / 2 * 2;
  static constexpr int kPlaneRows = (kRows - 1) * w.stride.height + w.kernel.height;
  // Rows that the next kRows outputs read again; negative where rows are skipped.
  static constexpr int kKept = w.kernel.height - w.stride.height;
  static constexpr int kHeader = 4;
  // Columns of the plane that lie inside the data.
  static constexpr int kBegin = w.padding.width;
  static constexpr int kInside = kPitch - kBegin < w.in.width ? kPitch - kBegin : w.in.width;

  using Taps = std::conditional_t<w.kernel.height == 3 && w.kernel.width == 3 && kStride <= 2,
                                  Taps3x3<kStride, kPitch>,
                                  AnyTaps<w.kernel.height, w.kernel.width, kStride, kPitch>>;

  static void fill(int16_t* elements, int count, int16_t value) {
    for (int i = 0; i < count; ++i) elements[i] = value;
  }

  // Brings the inputs of the outputs from row y on into the plane; `input` is the channel's first
  // value.
  static void load(const int8_t* input, int y, int16_t zero_point, int16_t* plane) {
    const int origin = y * w.stride.height - w.padding.height;
    int row = 0;
    if (kKept > 0 && y > 0) {
      const int16_t* from = plane + kRows * w.stride.height * kPitch;
      for (int i = 0; i < kKept * kPitch; i += 2) store_word(plane + i, load_word(from + i));
      row = kKept;
    }
    const int8_t* pixel = input + (origin + row) * (w.in.width * kChannels);
    for (; row < kPlaneRows; ++row, pixel += w.in.width * kChannels) {
      int16_t* inside = plane + row * kPitch + kBegin;
      if (origin + row < 0 || origin + row >= w.in.height) {
        fill(inside, kInside, zero_point);
        continue;
      }
#pragma GCC unroll 8
      for (int x = 0; x < kInside; ++x) inside[x] = pixel[x * kChannels];
    }
  }

  // Computes `rows` rows of one channel.
  static void compute(const uint32_t* stream, const int16_t* plane, int rows, int8_t* output) {
    const int32_t bias = static_cast<int32_t>(stream[0]);
    const FastScale scale = fast_scale(stream + 1);
    const Taps taps(stream + kHeader);
    for (int y = 0; y < rows; ++y, plane += w.stride.height * kPitch) {
      const int16_t* x = plane;
      const int16_t* const end = x + w.out.width / 2 * 2 * kStride;
      while (x != end) {
        const OutputPair sum = taps.pair(x, bias);
        output[0] = requantize_doubled<Clamp>(sum.first, scale);
        output[kOut] = requantize_doubled<Clamp>(sum.second, scale);
        output += 2 * kOut;
        x += 2 * kStride;
      }
      if constexpr (w.out.width % 2 == 1) {
        *output = requantize_doubled<Clamp>(taps.single(x, bias), scale);
        output += kOut;
      }
    }
  }
};

}  // namespace tinyboost::kernels
