// The geometry that convolutions and pools share.
#pragma once

namespace tinyboost::kernels {

struct Size {
  int height;
  int width;
};

// A window that slides over NHWC data; `padding` counts the implicit rows and columns before the
// data.
struct Window {
  int batches;
  Size in;
  Size out;
  Size kernel;
  Size stride;
  Size dilation;
  Size padding;
};

// The taps [begin, end) of a window, along one axis, that lie inside the data.
struct Taps {
  int begin;
  int end;
};

constexpr Taps taps_inside(int origin, int kernel, int dilation, int size) {
  const int begin = origin < 0 ? (-origin + dilation - 1) / dilation : 0;
  const int end = origin < size ? (size - origin + dilation - 1) / dilation : 0;
  return {begin, end < kernel ? end : kernel};
}

}  // namespace tinyboost::kernels
