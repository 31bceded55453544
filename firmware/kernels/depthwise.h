// DEPTHWISE_CONV_2D, one channel at a time.
//
// Each channel's rows are copied, as int16 with their padding, into a plane of their own, so that
// neighbouring taps share a word.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/requantize.h"
#include "kernels/simd.h"
#include "kernels/window.h"

namespace tinyboost::kernels {

// A 3x3 kernel in six registers: of each row, taps 0 and 1, and taps 1 and 2. They and the bias
// come doubled, as `requantize_doubled` wants the accumulators.
template <int kStride, int kPitch>
class Taps3x3 {
 public:
  static constexpr int kTogether = 2;
  static constexpr int kStreamWords = 6;
  static constexpr int kPrepared = 0;

  static const uint32_t* prepared(const uint32_t* stream, uint32_t*) { return stream; }

  Taps3x3(const uint32_t* words, const uint32_t*) {
#pragma GCC unroll 3
    for (int y = 0; y < 3; ++y) load_pair(words + 2 * y, taps01_[y], taps12_[y]);
  }

  int32_t doubled(int32_t sum) const { return sum; }

  // Adds up the taps' products for one or two neighbouring outputs.
  template <int kOutputs>
  void multiply_add(const int16_t* x, int32_t* sum) const {
#pragma GCC unroll 3
    for (int y = 0; y < 3; ++y, x += kPitch) {
      uint32_t x01, x23;
      load_pair(x, x01, x23);
      sum[0] = multiply_add_lanes(x01, taps01_[y], sum[0]);
      if constexpr (kOutputs == 1) {
        sum[0] = multiply_add_low_high(x23, taps12_[y], sum[0]);
      } else if constexpr (kStride == 1) {
        sum[1] = multiply_add_high_low(x01, taps01_[y], sum[1]);
        sum[0] = multiply_add_low_high(x23, taps12_[y], sum[0]);
        sum[1] = multiply_add_lanes(x23, taps12_[y], sum[1]);
      } else {
        const uint32_t x45 = load_word(x + 4);
        sum[0] = multiply_add_low_high(x23, taps12_[y], sum[0]);
        sum[1] = multiply_add_lanes(x23, taps01_[y], sum[1]);
        sum[1] = multiply_add_low_high(x45, taps12_[y], sum[1]);
      }
    }
  }

 private:
  uint32_t taps01_[3];
  uint32_t taps12_[3];
};

// Any other kernel. Its taps are widened once for a channel and read again for each four outputs.
// With stride 1 two words meet each word of a row: the taps as even outputs see them, and as odd
// ones do, one to the right. With even strides all see the same. The stream holds by how much sums
// are shifted to the left to be doubled, then int8 taps, four a word, each row by itself: taps 0
// and 1 are bytes 0 and 2.
template <int kHeight, int kWidth, int kStride, int kPitch>
class AnyTaps {
 public:
  static constexpr int kSpan = kStride == 1 ? kWidth / 2 + 1 : (kWidth + 1) / 2;
  static constexpr int kPhases = kStride == 1 ? 2 : 1;
  static constexpr int kTogether = 4;
  static constexpr int kStreamWords = 1 + kHeight * ((kSpan + 1) / 2);
  static constexpr int kPrepared = kHeight * kSpan * kPhases;

  static const uint32_t* prepared(const uint32_t* stream, uint32_t* words) {
    uint32_t* next = words;
    ++stream;
    for (int y = 0; y < kHeight; ++y) {
      uint32_t before = 0;
#pragma GCC unroll 4
      for (int i = 0; i < kSpan; ++i, next += kPhases) {
        const uint32_t bytes = stream[i / 2];
        const uint32_t here = i % 2 == 0 ? widen_even(bytes) : widen_odd(bytes);
        if constexpr (kPhases == 2) {
          store_pair(next, here, here << 16 | before);
          before = here >> 16;
        } else {
          *next = here;
        }
      }
      stream += (kSpan + 1) / 2;
    }
    return words;
  }

  AnyTaps(const uint32_t* words, const uint32_t* stream)
      : words_(words), doubling_(static_cast<int32_t>(stream[0])) {}

  int32_t doubled(int32_t sum) const { return shift_left(sum, doubling_); }

  // Adds up the taps' products for up to four neighbouring outputs.
  template <int kOutputs>
  void multiply_add(const int16_t* x, int32_t* sum) const {
    // Words from the first output's data to the last one's.
    constexpr int kReach = (kOutputs - 1) * kStride / 2;
    const uint32_t* taps = words_;
    for (int y = 0; y < kHeight; ++y, x += kPitch, taps += kSpan * kPhases) {
      uint32_t data[kSpan + kReach + 1];
      uint32_t tap[2 * kSpan];
#pragma GCC unroll 8
      for (int i = 0; i < kReach; i += 2) load_two<kSpan + kReach>(x, i, data);
#pragma GCC unroll 8
      for (int i = 0; i < kSpan; ++i) {
        if ((i + kReach) % 2 == 0) load_two<kSpan + kReach>(x, i + kReach, data);
        if (kPhases == 2) load_pair(taps + 2 * i, tap[2 * i], tap[2 * i + 1]);
        if (kPhases == 1 && i % 2 == 0) load_two<kSpan>(taps, i, tap);
#pragma GCC unroll 4
        for (int j = 0; j < kOutputs; ++j) {
          sum[j] =
              multiply_add_lanes(data[i + j * kStride / 2], tap[i * kPhases + j % kPhases], sum[j]);
        }
      }
    }
  }

 private:
  // Words i and i + 1, if there are kCount of them.
  template <int kCount, typename Element>
  static void load_two(const Element* from, int i, uint32_t* words) {
    const Element* const address = from + i * static_cast<int>(4 / sizeof(Element));
    if (i + 1 < kCount) {
      load_pair(address, words[i], words[i + 1]);
    } else {
      words[i] = load_word(address);
    }
  }

  const uint32_t* words_;
  int32_t doubling_;
};

// kRows: rows of outputs for which a plane holds the inputs. stream: for each output channel its
// bias, FastScale and taps. scratch: the words of prepared taps, then kPlaneRows * kPitch elements.
// With kMultiplier 1 the output may take the place of the input where no row is overwritten before
// it is read.
template <const Window& w, int kChannels, int kMultiplier, int kRows, typename Clamp>
class Depthwise {
 public:
  static void run(const uint32_t* stream, int16_t zero_point, int8_t* scratch, const int8_t* input,
                  int8_t* output) {
    for (int n = 0; n < w.batches; ++n) {
      run_one(stream, zero_point, reinterpret_cast<uint32_t*>(scratch), input, output);
      input += w.in.height * w.in.width * kChannels;
      output += w.out.height * w.out.width * kOut;
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
  static constexpr int kHeader = 1 + kScaleWords;
  // Columns of the plane that lie inside the data.
  static constexpr int kBegin = w.padding.width;
  static constexpr int kInside = kPitch - kBegin < w.in.width ? kPitch - kBegin : w.in.width;

  using Taps = std::conditional_t<w.kernel.height == 3 && w.kernel.width == 3 && kStride <= 2,
                                  Taps3x3<kStride, kPitch>,
                                  AnyTaps<w.kernel.height, w.kernel.width, kStride, kPitch>>;

  static constexpr int kStreamWords = kHeader + Taps::kStreamWords;

  static void run_one(const uint32_t* stream, int16_t zero_point, uint32_t* prepared,
                      const int8_t* input, int8_t* output) {
    int16_t* plane = reinterpret_cast<int16_t*>(prepared + kMultiplier * Taps::kPrepared);
    fill(plane, kPlaneRows * kPitch, zero_point);
    for (int c = 0; c < kChannels; ++c, ++input) {
      const uint32_t* taps[kMultiplier];
      for (int m = 0; m < kMultiplier; ++m) {
        taps[m] =
            Taps::prepared(stream + m * kStreamWords + kHeader, prepared + m * Taps::kPrepared);
      }
      for (int y = 0; y < w.out.height; y += kRows) {
        load(input, y, zero_point, plane);
        const int rows = w.out.height - y < kRows ? w.out.height - y : kRows;
        int8_t* corner = output + y * w.out.width * kOut;
        for (int m = 0; m < kMultiplier; ++m) {
          compute(stream + m * kStreamWords, taps[m], plane, rows, corner + m);
        }
      }
      stream += kMultiplier * kStreamWords;
      output += kMultiplier;
    }
  }

  // Outputs of a row that are computed kTogether at a time.
  static constexpr int kWhole = w.out.width / Taps::kTogether * Taps::kTogether;

  static void fill(int16_t* elements, int count, int16_t value) {
    for (int i = 0; i < count; ++i) elements[i] = value;
  }

  // Brings the inputs of the outputs from row y on into the plane; `input` is the channel's first
  // value. Padding stays as it is where the plane holds the whole map.
  static void load(const int8_t* input, int y, int16_t zero_point, int16_t* plane) {
    if constexpr (kRows >= w.out.height) {
      constexpr int kBelow = kPlaneRows - w.padding.height;
      copy_rows(input, kBelow < w.in.height ? kBelow : w.in.height,
                plane + w.padding.height * kPitch);
      return;
    }
    const int origin = y * w.stride.height - w.padding.height;
    int row = 0;
    if (kKept > 0 && y > 0) {
      const int16_t* from = plane + kRows * w.stride.height * kPitch;
      for (int i = 0; i < kKept * kPitch; i += 2) store_word(plane + i, load_word(from + i));
      row = kKept;
    }
    for (; row < kPlaneRows && origin + row < 0; ++row) {
      fill(plane + row * kPitch + kBegin, kInside, zero_point);
    }
    const int data = w.in.height - origin - row;
    const int rows = data < kPlaneRows - row ? (data < 0 ? 0 : data) : kPlaneRows - row;
    copy_rows(input + (origin + row) * (w.in.width * kChannels), rows, plane + row * kPitch);
    for (row += rows; row < kPlaneRows; ++row) {
      fill(plane + row * kPitch + kBegin, kInside, zero_point);
    }
  }

  static void copy_rows(const int8_t* pixel, int rows, int16_t* plane) {
    int16_t* const end = plane + rows * kPitch;
    for (; plane != end; plane += kPitch, pixel += w.in.width * kChannels) {
#pragma GCC unroll 8
      for (int x = 0; x < kInside; ++x) plane[kBegin + x] = pixel[x * kChannels];
    }
  }

  // Computes `rows` rows of one channel.
  static void compute(const uint32_t* stream, const uint32_t* words, const int16_t* plane, int rows,
                      int8_t* output) {
    const int32_t bias = static_cast<int32_t>(stream[0]);
    const FastScale scale = fast_scale<Clamp>(stream + 1);
    const Taps taps(words, stream + kHeader);
    for (int y = 0; y < rows; ++y, plane += w.stride.height * kPitch) {
      const int16_t* x = plane;
      const int16_t* const end = x + kWhole * kStride;
      while (x != end) {
        store<Taps::kTogether>(taps, x, bias, scale, output);
        output += Taps::kTogether * kOut;
        x += Taps::kTogether * kStride;
      }
      if constexpr (w.out.width > kWhole) {
        store<w.out.width - kWhole>(taps, x, bias, scale, output);
        output += (w.out.width - kWhole) * kOut;
      }
    }
  }

  // Computes kOutputs neighbouring outputs.
  template <int kOutputs>
  static void store(const Taps& taps, const int16_t* x, int32_t bias, const FastScale& scale,
                    int8_t* output) {
    int32_t sum[kOutputs];
#pragma GCC unroll 4
    for (int i = 0; i < kOutputs; ++i) sum[i] = bias;
    taps.template multiply_add<kOutputs>(x, sum);
#pragma GCC unroll 4
    for (int i = 0; i < kOutputs; ++i) {
      output[i * kOut] = requantize_doubled<Clamp>(taps.doubled(sum[i]), scale);
    }
  }
};

}  // namespace tinyboost::kernels
