// Bounds that linker.ld defines; only their addresses mean something.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {
extern uint32_t __ram_start[], __ram_end[];
extern uint32_t __stack_bottom[], __stack_top[];
extern uint32_t __data_start[], __data_end[];
extern const uint32_t __data_load[];
extern uint32_t __itcm_start[], __itcm_end[];
extern const uint32_t __itcm_load[];
extern uint32_t __bss_start[], __bss_end[];
extern uint32_t __noinit_start[], __noinit_end[];
extern uint32_t __spare_start[];
extern const uint8_t __flash_used[];
using InitFunction = void (*)();
extern const InitFunction __init_array_start[], __init_array_end[];
}

namespace tinyboost::chip {

inline uintptr_t address_of(const void* symbol) { return reinterpret_cast<uintptr_t>(symbol); }

inline uint32_t bytes_between(const void* start, const void* end) {
  return address_of(end) - address_of(start);
}

}  // namespace tinyboost::chip
