// FULLY_CONNECTED with one row: weights met only once, four output channels at a time.
#pragma once

#include <cstdint>

#include "kernels/pair_matmul.h"

namespace tinyboost::kernels {

// Adds four inputs' products with two pairs of channels; x0 holds inputs 0 and 2, x1 inputs 1
// and 3.
inline void multiply_add_two_pairs(const uint32_t* weights, uint32_t x0, uint32_t x1, int32_t* raw,
                                   int32_t* low) {
#pragma GCC unroll 2
  for (int pair = 0; pair < 2; ++pair) {
    uint32_t v0, v1;
    load_pair(weights + 2 * pair, v0, v1);
    raw[pair] = multiply_add_lanes(v0, x0, raw[pair]);
    raw[pair] = multiply_add_lanes(v1, x1, raw[pair]);
    low[pair] = multiply_add_lanes(widen_even(v0), x0, low[pair]);
    low[pair] = multiply_add_lanes(widen_even(v1), x1, low[pair]);
  }
}

// Two pairs of channels as in pair_matmul.h, their streams interleaved: both headers, for every
// four inputs two words of each pair, both trailers. Channels beyond kChannels, up to a multiple of
// four, have zeros. Where kUniform, the one scale of all channels comes first and there are no
// trailers.
template <int kDepth, int kChannels, typename Clamp, bool kDeep, bool kUniform>
[[gnu::noinline]] void fully_connected(const uint32_t* stream, const int8_t* input,
                                       int8_t* output) {
  static_assert(kDepth % 4 == 0);
  constexpr int kLoad = kDepth % 8 == 0 ? 8 : 4;
  constexpr int kStep = kDepth % 32 == 0 ? 32 : kLoad;
  const uint32_t* const uniform = stream;
  if constexpr (kUniform) stream += kScaleWords;
  for (int channel = 0; channel < kChannels; channel += 4) {
    uint32_t low0, raw0, low1, raw1;
    load_pair(stream, low0, raw0);
    load_pair(stream + kPairHeader, low1, raw1);
    int32_t low[2] = {static_cast<int32_t>(low0), static_cast<int32_t>(low1)};
    [[maybe_unused]] int32_t second[2] = {static_cast<int32_t>(raw0), static_cast<int32_t>(raw1)};
    int32_t raw[2] = {kDeep ? low[0] : second[0], kDeep ? low[1] : second[1]};
    stream += 2 * kPairHeader;
    const int8_t* x = input;
    const int8_t* const last = input + kDepth;
    do {
      const int8_t* const end = kDeep && last - x > kChunk ? x + kChunk : last;
      do {
#pragma GCC unroll 4
        for (int k = 0; k < kStep; k += kLoad) {
          uint32_t bytes[2];
          if constexpr (kLoad == 8) {
            load_pair(x + k, bytes[0], bytes[1]);
          } else {
            bytes[0] = load_word(x + k);
          }
#pragma GCC unroll 2
          for (int i = 0; i < kLoad / 4; ++i) {
            multiply_add_two_pairs(stream + k + 4 * i, widen_even(bytes[i]), widen_odd(bytes[i]),
                                   raw, low);
          }
        }
        x += kStep;
        stream += kStep;
      } while (x != end);
      if constexpr (kDeep) take_second<2>(raw, low, second);
    } while (kDeep && x != last);
#pragma GCC unroll 2
    for (int pair = 0; pair < 2; ++pair) {
      const int first = channel + 2 * pair;
      if (kChannels % 4 != 0 && first >= kChannels) break;
      const FastScale scale_a = fast_scale<Clamp>(kUniform ? uniform : stream);
      output[first] = requantize_doubled<Clamp>(low[pair] * 2, scale_a);
      if (kChannels % 2 == 0 || first + 1 < kChannels) {
        const FastScale scale_b = kUniform ? scale_a : fast_scale<Clamp>(stream + kScaleWords);
        output[first + 1] = requantize_doubled<Clamp>(
            kDeep ? second[pair] : doubled_second(raw[pair], low[pair]), scale_b);
      }
      if constexpr (!kUniform) stream += kPairTrailer;
    }
  }
}

}  // namespace tinyboost::kernels
