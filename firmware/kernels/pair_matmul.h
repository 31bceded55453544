// Products of int8 weights with columns of int16 activations, two output channels at a time.
//
// The weights of channels A and B share 16-bit lanes, v = 256 B + A. SMLAD of v accumulates
// raw = sum(A x) + 256 sum(B x); SMLAD of its sign-extended low bytes accumulates low = sum(A x);
// the rest is 256 sum(B x), exact modulo 2^32 while |sum(B x)| < 2^23, which the generator has
// proven. Where it cannot, sums are deep: B's is taken out and added up after every kChunk inputs.
#pragma once

#include <cstdint>

#include "kernels/requantize.h"
#include "kernels/simd.h"

namespace tinyboost::kernels {

// Words of a stream before and after the weights of a pair of channels.
inline constexpr int kPairHeader = 2;  // Initial values of low and raw; of low and twice B's sum.
inline constexpr int kPairTrailer = 2 * kScaleWords;

// Inputs per iteration of the innermost loop.
inline constexpr int kUnrolled = 16;

// Inputs of which any sum of products with int8 weights, and of some more, stays below 2^23.
inline constexpr int kChunk = 480;

// Twice the sum of the second channel of a pair.
inline int32_t doubled_second(int32_t raw, int32_t low) {
  return static_cast<int32_t>(static_cast<uint32_t>(raw) - static_cast<uint32_t>(low)) >> 7;
}

// Adds what the second channels' accumulators hold, doubled, to `second`, and empties them.
template <int kCount>
inline void take_second(int32_t* raw, const int32_t* low, int32_t* second) {
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) {
    second[i] += doubled_second(raw[i], low[i]);
    raw[i] = low[i];
  }
}

// Adds four inputs' products with two channels to the accumulators of kColumns columns.
template <int kColumns, int kStep>
inline void multiply_add_four(const uint32_t* weights, const int16_t* columns, int32_t* raw,
                              int32_t* low) {
  uint32_t v0, v1;
  load_pair(weights, v0, v1);
  const uint32_t a0 = widen_even(v0);
  const uint32_t a1 = widen_even(v1);
#pragma GCC unroll 4
  for (int i = 0; i < kColumns; ++i) {
    uint32_t x0, x1;
    load_pair(columns + i * kStep, x0, x1);
    raw[i] = multiply_add_lanes(v0, x0, raw[i]);
    low[i] = multiply_add_lanes(a0, x0, low[i]);
    raw[i] = multiply_add_lanes(v1, x1, raw[i]);
    low[i] = multiply_add_lanes(a1, x1, low[i]);
  }
}

// Computes kColumns output pixels. `stream` holds, for each pair of channels, header, kDepth / 2
// words of weights and trailer. Column i of the activations lies kStep elements after column i - 1;
// output pixel i lies kPixel bytes after pixel i - 1.
template <int kColumns, int kDepth, int kStep, int kChannels, typename Clamp, bool kDeep,
          int kPixel = kChannels>
[[gnu::noinline]] void pair_matmul(const uint32_t* stream, const int16_t* columns, int8_t* output) {
  static_assert(kDepth % 4 == 0 && kStep % 2 == 0);
  constexpr int kRest = kDepth % kUnrolled;
  for (int channel = 0; channel < kChannels; channel += 2) {
    int32_t low[kColumns];
    int32_t raw[kColumns];
    [[maybe_unused]] int32_t second[kColumns];
    uint32_t low_start, other_start;
    load_pair(stream, low_start, other_start);
#pragma GCC unroll 4
    for (int i = 0; i < kColumns; ++i) {
      low[i] = static_cast<int32_t>(low_start);
      raw[i] = static_cast<int32_t>(kDeep ? low_start : other_start);
      if constexpr (kDeep) second[i] = static_cast<int32_t>(other_start);
    }
    stream += kPairHeader;
    const int16_t* x = columns;
    if constexpr (kDepth >= kUnrolled) {
      const int16_t* const last = columns + (kDepth - kRest);
      do {
        const int16_t* const end = kDeep && last - x > kChunk ? x + kChunk : last;
        do {
#pragma GCC unroll 4
          for (int k = 0; k < kUnrolled; k += 4) {
            multiply_add_four<kColumns, kStep>(stream + k / 2, x + k, raw, low);
          }
          x += kUnrolled;
          stream += kUnrolled / 2;
        } while (x != end);
        if constexpr (kDeep) {
          if (end != last) take_second<kColumns>(raw, low, second);
        }
      } while (kDeep && x != last);
    }
#pragma GCC unroll 4
    for (int k = 0; k < kRest; k += 4) {
      multiply_add_four<kColumns, kStep>(stream + k / 2, x + k, raw, low);
    }
    stream += kRest / 2;
    if constexpr (kDeep) take_second<kColumns>(raw, low, second);
    const FastScale scale_a = fast_scale<Clamp>(stream);
    const FastScale scale_b = fast_scale<Clamp>(stream + kScaleWords);
    stream += kPairTrailer;
#pragma GCC unroll 4
    for (int i = 0; i < kColumns; ++i) {
      output[i * kPixel] = requantize_doubled<Clamp>(low[i] * 2, scale_a);
      if (kChannels % 2 == 0 || channel + 1 < kChannels) {
        output[i * kPixel + 1] =
            requantize_doubled<Clamp>(kDeep ? second[i] : doubled_second(raw[i], low[i]), scale_b);
      }
    }
    output += 2;
  }
}

}  // namespace tinyboost::kernels
