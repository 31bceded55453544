#include "fake_platform.h"

#include <cstdlib>

#include "harness/platform.h"

namespace tinyboost {

fake_platform::State& fake_platform::state() {
  static State state;
  return state;
}

namespace platform {

using fake_platform::state;

const char* const description = "board=fake\nchip=none\ncounter=cycles\n";
const uint64_t counter_mask = UINT32_MAX;

void initialise() {}
uint32_t clock_hz() { return 216'000'000; }
uint64_t counter() { return (state().counter += state().counter_step) & counter_mask; }
uint8_t read_byte() { std::abort(); }
void write(const uint8_t* data, size_t size) {
  state().sent.insert(state().sent.end(), data, data + size);
}
void reset() { std::longjmp(state().after_reset, 1); }
Memory memory() { return {1, 2, 3, 4}; }
uint32_t stack_used() { return 5; }
SpareMemory spare_memory() { return {state().spare.data(), state().spare.size()}; }
const FaultRecord* last_fault() { return state().fault; }
uint32_t fault_count() { return state().fault != nullptr ? 1 : 0; }

}  // namespace platform
}  // namespace tinyboost
