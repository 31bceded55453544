// The image's self-description: lines "key=value\n", as HELLO sends them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinyboost {

// A view of texts that lie apart, so that no copy of the whole is needed.
class Description {
 public:
  Description();

  size_t size() const { return size_; }

  // Copies `count` bytes from `offset` on; offset + count <= size().
  void copy(size_t offset, size_t count, uint8_t* out) const;

 private:
  static constexpr size_t kParts = 4;

  char clock_line_[24];
  const char* parts_[kParts];
  size_t size_ = 0;
};

}  // namespace tinyboost
