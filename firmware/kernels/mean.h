// MEAN over any axes of a tensor.
#pragma once

#include <cstdint>

#include "kernels/fixed_point.h"

namespace tinyboost::kernels {

// The tensor as kept and reduced dimensions alternating: [kept, reduced, kept, reduced, kept].
struct MeanShape {
  int outer;
  int reduced;
  int middle;
  int reduced_inner;
  int inner;
};

// `bias` is minus the input zero point times the number of elements of a mean; `scale` includes the
// division by that number.
inline void mean(const MeanShape& s, int32_t bias, Scale scale, const Output& range,
                 const int8_t* input, int8_t* output) {
  for (int o = 0; o < s.outer; ++o) {
    for (int m = 0; m < s.middle; ++m) {
      for (int i = 0; i < s.inner; ++i) {
        int32_t sum = bias;
        for (int r = 0; r < s.reduced; ++r) {
          const int8_t* value =
              input + (((o * s.reduced + r) * s.middle + m) * s.reduced_inner) * s.inner + i;
          for (int k = 0; k < s.reduced_inner; ++k, value += s.inner) sum += *value;
        }
        *output++ = requantize(sum, scale, range);
      }
    }
  }
}

}  // namespace tinyboost::kernels
