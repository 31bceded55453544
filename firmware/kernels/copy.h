// Operators that only move bytes: nested loops over runs of bytes that stay together.
#pragma once

#include <cstdint>

#include "kernels/simd.h"

namespace tinyboost::kernels {

// A loop: how often, and bytes from one turn to the next in the source and in the target.
struct CopyStep {
  int count;
  int from;
  int to;
};

struct Copy {
  CopyStep steps[4];
  int run;
};

constexpr bool stays_in_place(const Copy& copy) {
  for (const CopyStep& step : copy.steps) {
    if (step.count > 1 && step.from != step.to) return false;
  }
  return true;
}

// The target may begin at or before the source, and they may overlap.
template <int kRun>
inline void copy_run(const int8_t* from, int8_t* to) {
  int i = 0;
  for (; i + 16 <= kRun; i += 16) {
    const uint32_t words[4] = {load_word(from + i), load_word(from + i + 4),
                               load_word(from + i + 8), load_word(from + i + 12)};
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) store_word(to + i + 4 * k, words[k]);
  }
  for (; i + 4 <= kRun; i += 4) store_word(to + i, load_word(from + i));
  for (; i < kRun; ++i) to[i] = from[i];
}

// The target may begin at or after the source, and they may overlap.
template <int kRun>
inline void copy_run_backward(const int8_t* from, int8_t* to) {
  int i = kRun;
  for (; i % 4 != 0; --i) to[i - 1] = from[i - 1];
  for (; i > 0; i -= 4) store_word(to + i - 4, load_word(from + i - 4));
}

// In the order of the target, from its first byte on or, backward, from its last.
template <const Copy& s, bool kBackward = false>
void copy(const int8_t* input, int8_t* output) {
  if (stays_in_place(s) && input == output) return;
  const auto turn = [](int i, int step) { return kBackward ? s.steps[step].count - 1 - i : i; };
  for (int i = 0; i < s.steps[0].count; ++i) {
    for (int j = 0; j < s.steps[1].count; ++j) {
      for (int k = 0; k < s.steps[2].count; ++k) {
        const int a = turn(i, 0), b = turn(j, 1), c = turn(k, 2);
        const int8_t* from =
            input + a * s.steps[0].from + b * s.steps[1].from + c * s.steps[2].from;
        int8_t* to = output + a * s.steps[0].to + b * s.steps[1].to + c * s.steps[2].to;
        for (int l = 0; l < s.steps[3].count; ++l) {
          const int d = turn(l, 3);
          if constexpr (kBackward) {
            copy_run_backward<s.run>(from + d * s.steps[3].from, to + d * s.steps[3].to);
          } else {
            copy_run<s.run>(from + d * s.steps[3].from, to + d * s.steps[3].to);
          }
        }
      }
    }
  }
}

template <int kCount>
inline void fill(int8_t value, int8_t* output) {
  const uint32_t word = static_cast<uint8_t>(value) * 0x01010101u;
  int i = 0;
  for (; i + 4 <= kCount; i += 4) store_word(output + i, word);
  for (; i < kCount; ++i) output[i] = value;
}

}  // namespace tinyboost::kernels
