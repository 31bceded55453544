#include "harness/description.h"

#include <algorithm>
#include <cstring>

#include "build_info.h"
#include "engine/engine.h"
#include "harness/platform.h"
#include "harness/protocol.h"

namespace tinyboost {
namespace {

static_assert(kProtocolVersion == 1, "the first line of the description names the version");

constexpr char kBuild[] =
    "protocol=1\n"
    "git=" TINYBOOST_GIT
    "\n"
    "compiler=" TINYBOOST_COMPILER
    "\n"
    "flags=" TINYBOOST_FLAGS "\n";

void write_clock_line(char* out) {
  constexpr char kKey[] = "clock_hz=";
  std::memcpy(out, kKey, sizeof(kKey) - 1);
  char* const digits = out + sizeof(kKey) - 1;
  char* end = digits;
  for (uint32_t rest = platform::clock_hz(); rest != 0 || end == digits; rest /= 10) {
    *end++ = static_cast<char>('0' + rest % 10);
  }
  std::reverse(digits, end);
  end[0] = '\n';
  end[1] = '\0';
}

}  // namespace

Description::Description()
    : parts_{kBuild, platform::description, clock_line_, engine::model().description} {
  write_clock_line(clock_line_);
  for (const char* part : parts_) size_ += std::strlen(part);
}

void Description::copy(size_t offset, size_t count, uint8_t* out) const {
  for (const char* part : parts_) {
    const size_t length = std::strlen(part);
    if (offset < length) {
      const size_t piece = std::min(count, length - offset);
      std::memcpy(out, part + offset, piece);
      out += piece;
      count -= piece;
    }
    offset -= std::min(offset, length);
  }
}

}  // namespace tinyboost
