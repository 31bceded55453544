// Greatest and least values: REDUCE_MAX, REDUCE_MIN, ARG_MAX and ARG_MIN.
#pragma once

#include <cstdint>

#include "kernels/mean.h"

namespace tinyboost::kernels {

template <bool kGreatest>
constexpr bool beats(int8_t value, int8_t best) {
  return kGreatest ? value > best : value < best;
}

template <bool kGreatest>
void reduce_extreme(const MeanShape& s, const int8_t* input, int8_t* output) {
  for (int o = 0; o < s.outer; ++o) {
    for (int m = 0; m < s.middle; ++m) {
      for (int i = 0; i < s.inner; ++i) {
        int8_t best = kGreatest ? INT8_MIN : INT8_MAX;
        for (int r = 0; r < s.reduced; ++r) {
          const int8_t* value =
              input + (((o * s.reduced + r) * s.middle + m) * s.reduced_inner) * s.inner + i;
          for (int k = 0; k < s.reduced_inner; ++k, value += s.inner) {
            if (beats<kGreatest>(*value, best)) best = *value;
          }
        }
        *output++ = best;
      }
    }
  }
}

// The index along the dimension in the middle; of equal values the first.
template <bool kGreatest>
void arg_extreme(int outer, int count, int inner, const int8_t* input, int32_t* output) {
  for (int o = 0; o < outer; ++o, input += count * inner) {
    for (int i = 0; i < inner; ++i) {
      int32_t best = 0;
      for (int k = 1; k < count; ++k) {
        if (beats<kGreatest>(input[k * inner + i], input[best * inner + i])) best = k;
      }
      *output++ = best;
    }
  }
}

}  // namespace tinyboost::kernels
