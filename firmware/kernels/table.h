// Operators from one int8 value to one int8 value, as a table of all results.
#pragma once

#include <cstdint>

namespace tinyboost::kernels {

// `table` is indexed by a value's byte: 0 to 127, then -128 to -1. The output may take the input's
// place.
template <int kCount>
inline void map(const int8_t* table, const int8_t* input, int8_t* output) {
  int i = 0;
  for (; i + 8 <= kCount; i += 8) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) output[i + k] = table[static_cast<uint8_t>(input[i + k])];
  }
  for (; i < kCount; ++i) output[i] = table[static_cast<uint8_t>(input[i])];
}

}  // namespace tinyboost::kernels
