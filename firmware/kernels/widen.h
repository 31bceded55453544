// Copies of int8 activations as int16, for `pair_matmul`.
//
// Groups of four are stored in the order 0, 2, 1, 3, as SXTB16 gives them, where the number of
// channels is a multiple of four; the generator orders the weights alike. Other channels keep their
// order.
#pragma once

#include <cstdint>

#include "kernels/simd.h"

namespace tinyboost::kernels {

template <int kCount>
inline void widen(const int8_t* input, int16_t* output) {
  if constexpr (kCount % 4 == 0) {
    constexpr int kStep = kCount % 16 == 0 ? 16 : (kCount % 8 == 0 ? 8 : 4);
    const int8_t* const end = input + kCount;
    do {
#pragma GCC unroll 4
      for (int i = 0; i < kStep; i += 4) {
        const uint32_t bytes = load_word(input + i);
        store_pair(output + i, widen_even(bytes), widen_odd(bytes));
      }
      input += kStep;
      output += kStep;
    } while (input != end);
  } else {
    for (int i = 0; i < kCount; ++i) output[i] = input[i];
  }
}

// Moves kCount elements down from kDistance elements further on.
template <int kCount, int kDistance>
inline void move_down(int16_t* elements) {
  if constexpr (kCount % 4 == 0 && kDistance % 2 == 0) {
    for (int i = 0; i < kCount; i += 4) {
      uint32_t first, second;
      load_pair(elements + kDistance + i, first, second);
      store_pair(elements + i, first, second);
    }
  } else {
    for (int i = 0; i < kCount; ++i) elements[i] = elements[i + kDistance];
  }
}

}  // namespace tinyboost::kernels
