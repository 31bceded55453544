// System clock: 216 MHz from the 25 MHz oscillator, or what is left of it when that fails.
#pragma once

#include <cstdint>

namespace tinyboost::chip {

struct Clocks {
  uint32_t core_hz;
  uint32_t apb2_hz;  // Of USART1.
};

// Called once after reset, with the internal 16 MHz oscillator running. When a step fails, the
// chip stays on that oscillator.
Clocks start_clocks();

}  // namespace tinyboost::chip
