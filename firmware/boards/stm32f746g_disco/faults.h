// Fault handling: record, tell the host, reset.
#pragma once

#include <cstdint>

#include "harness/protocol.h"

namespace tinyboost::chip {

// The last fault since power-up, or null, and how many there were: they outlive a reset.
const FaultRecord* last_fault();
uint32_t fault_count();

[[noreturn]] void reset_chip();

}  // namespace tinyboost::chip

// Where every exception but reset enters.
extern "C" void fault_entry();
