// The stack's high-water mark: the reserve is painted at reset, and what kept its paint is unused.
#pragma once

#include <cstdint>

namespace tinyboost::chip {

constexpr uint32_t kStackPaint = 0xA5A5A5A5;

uint32_t stack_high_water_mark();

}  // namespace tinyboost::chip
