// What the harness needs of the board that it runs on. Each board under boards/ implements it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "harness/protocol.h"

namespace tinyboost::platform {

// Lines "key=value\n" for HELLO: board, chip, counter.
extern const char* const description;

// Bits that the counter has, as a mask: differences are taken modulo it.
extern const uint64_t counter_mask;

// Clock, UART and counter. Called once, before all others.
void initialise();

// The clock that the core really runs at.
uint32_t clock_hz();

// Cycles, or what `description` calls the counter.
uint64_t counter();

// Waits for the next byte from the host.
uint8_t read_byte();

void write(const uint8_t* data, size_t size);

// Lets the bytes written so far leave, then starts the image anew.
[[noreturn]] void reset();

// Sizes in bytes, 0 where the platform cannot tell.
struct Memory {
  uint32_t data;
  uint32_t bss;  // Without arena and stack.
  uint32_t stack_reserved;
  uint32_t flash_used;
};
Memory memory();

// High-water mark of the stack since reset, in bytes; 0 where the platform cannot tell.
uint32_t stack_used();

// RAM that the image leaves free: the per-layer profile lies there, so that it costs a model none.
struct SpareMemory {
  uint32_t* words;
  size_t count;
};
SpareMemory spare_memory();

// The last fault since power-up, or null, and how many there were.
const FaultRecord* last_fault();
uint32_t fault_count();

}  // namespace tinyboost::platform
