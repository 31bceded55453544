#include "harness/platform.h"

#include "clock.h"
#include "faults.h"
#include "linker_symbols.h"
#include "registers.h"
#include "stack.h"
#include "uart.h"

namespace tinyboost::platform {
namespace {

uint32_t core_hz;

void start_cycle_counter() {
  chip::dwt::kDemcr.set(chip::dwt::kDemcrTraceEnable);
  chip::dwt::kLockAccess.write(chip::dwt::kLockAccessKey);
  chip::dwt::kCycleCounter.write(0);
  chip::dwt::kControl.set(chip::dwt::kControlCycleCounter);
}

}  // namespace

const char* const description =
    "board=stm32f746g_disco\n"
    "chip=STM32F746NG\n"
    "counter=cycles\n";

const uint64_t counter_mask = UINT32_MAX;

void initialise() {
  const chip::Clocks clocks = chip::start_clocks();
  core_hz = clocks.core_hz;
  chip::start_uart(clocks.apb2_hz);
  start_cycle_counter();
}

uint32_t clock_hz() { return core_hz; }

uint64_t counter() { return chip::dwt::kCycleCounter.read(); }

uint8_t read_byte() { return chip::receive_byte(); }

void write(const uint8_t* data, size_t size) { chip::send_bytes(data, size); }

void reset() { chip::reset_chip(); }

Memory memory() {
  return {chip::bytes_between(__data_start, __data_end),
          chip::bytes_between(__bss_start, __bss_end) +
              chip::bytes_between(__noinit_start, __noinit_end),
          chip::bytes_between(__stack_bottom, __stack_top), chip::address_of(__flash_used)};
}

uint32_t stack_used() { return chip::stack_high_water_mark(); }

SpareMemory spare_memory() {
  return {__spare_start, chip::bytes_between(__spare_start, __ram_end) / sizeof(uint32_t)};
}

const FaultRecord* last_fault() { return chip::last_fault(); }

uint32_t fault_count() { return chip::fault_count(); }

}  // namespace tinyboost::platform
