// From reset to the harness.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "faults.h"
#include "harness/harness.h"
#include "linker_symbols.h"
#include "registers.h"
#include "stack.h"

extern "C" void Reset_Handler();

namespace tinyboost::chip {
namespace {

// RM0385 table 46: 15 system exceptions and 98 interrupts follow the initial stack pointer.
constexpr size_t kExceptions = 15 + 98;

struct VectorTable {
  uint32_t* initial_stack;
  std::array<void (*)(), kExceptions> handlers;
};

// No interrupt is ever enabled: whatever comes besides reset is a fault.
constexpr std::array<void (*)(), kExceptions> make_handlers() {
  std::array<void (*)(), kExceptions> handlers{};
  for (auto& handler : handlers) handler = fault_entry;
  handlers[0] = Reset_Handler;
  return handlers;
}

[[gnu::section(".vectors"), gnu::used]] const VectorTable vector_table = {__stack_top,
                                                                          make_handlers()};

void enable_fpu() {
  scb::kCpacr.set(scb::kCpacrFpu);
  // No exception returns: there is no FPU state to save.
  scb::kFpccr.write(0);
  barrier();
}

void paint_stack() {
  uint32_t* stack_pointer;
  asm volatile("mov %0, sp" : "=r"(stack_pointer));
  for (volatile uint32_t* word = __stack_bottom; word < stack_pointer; ++word) {
    *word = kStackPaint;
  }
}

void initialise_memory() {
  std::copy(__itcm_load, __itcm_load + (__itcm_end - __itcm_start), __itcm_start);
  std::copy(__data_load, __data_load + (__data_end - __data_start), __data_start);
  std::fill(__bss_start, __bss_end, 0U);
  barrier();
}

void forbid(uint32_t region, uint32_t address, uint32_t log2_bytes) {
  mpu::kBaseAddress.write(address | mpu::kBaseAddressValid | region);
  mpu::kAttributes.write(mpu::kAttributesNoAccess | mpu::attributes_size(log2_bytes));
}

// Null pointers (linker.ld leaves the bytes free) and what lies below the stack; all else keeps the
// architecture's default map.
void protect_memory() {
  constexpr uint32_t kNullGuardLog2 = 8;
  constexpr uint32_t kStackGuardLog2 = 12;
  forbid(0, 0, kNullGuardLog2);
  forbid(1, address_of(__stack_bottom) - (1u << kStackGuardLog2), kStackGuardLog2);
  mpu::kControl.write(mpu::kControlEnable | mpu::kControlDefaultMap);
  barrier();
}

void enable_faults() {
  scb::kVtor.write(address_of(&vector_table));
  scb::kCcr.set(scb::kCcrTrapDivideByZero);
  // Enabled, they escalate to HardFault when stacking fails. Disabled, that would be a lockup.
  scb::kShcsr.set(scb::kShcsrMemManage | scb::kShcsrBusFault | scb::kShcsrUsageFault);
  barrier();
}

// PM0253 4.5.3: both caches hold anything after reset.
void enable_caches() {
  cache::kInvalidateInstruction.write(0);
  barrier();
  scb::kCcr.set(scb::kCcrInstructionCache);
  barrier();

  constexpr uint32_t kWays = 4;
  cache::kSizeSelection.write(0);  // The data cache.
  data_barrier();
  const uint32_t last_set = (cache::kSizeId.read() >> 13) & 0x7FFF;
  for (uint32_t set = 0; set <= last_set; ++set) {
    for (uint32_t way = 0; way < kWays; ++way) {
      cache::kInvalidateDataSetWay.write(way << 30 | set << 5);
    }
  }
  data_barrier();
  scb::kCcr.set(scb::kCcrDataCache);
  barrier();
}

[[noreturn, gnu::noinline]] void start() {
  paint_stack();
  initialise_memory();
  protect_memory();
  enable_faults();
  enable_caches();
  for (const InitFunction* f = __init_array_start; f != __init_array_end; ++f) (*f)();
  serve();
}

}  // namespace

uint32_t stack_high_water_mark() {
  const uint32_t* used =
      std::find_if(__stack_bottom, __stack_top, [](uint32_t word) { return word != kStackPaint; });
  return bytes_between(used, __stack_top);
}

}  // namespace tinyboost::chip

void Reset_Handler() {
  tinyboost::chip::enable_fpu();
  tinyboost::chip::start();
}
