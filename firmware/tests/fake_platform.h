// A platform for tests of the harness: what it would send is kept, and time is what a test says.
#pragma once

#include <csetjmp>
#include <cstdint>
#include <vector>

#include "harness/protocol.h"

namespace tinyboost::fake_platform {

struct State {
  std::vector<uint8_t> sent;
  uint64_t counter = 0;
  uint64_t counter_step = 0;  // What each reading of the counter adds.
  std::vector<uint32_t> spare = std::vector<uint32_t>(64);
  const FaultRecord* fault = nullptr;
  std::jmp_buf after_reset;  // Where platform::reset goes.
};

State& state();

}  // namespace tinyboost::fake_platform
