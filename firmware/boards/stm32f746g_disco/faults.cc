#include "faults.h"

#include "harness/crc32.h"
#include "harness/harness.h"
#include "linker_symbols.h"
#include "registers.h"
#include "uart.h"

namespace tinyboost::chip {
namespace {

// After power-up RAM holds anything: only a log with the right check word counts.
struct FaultLog {
  FaultRecord record;
  uint32_t count;
  uint32_t check;
};

[[gnu::section(".noinit")]] FaultLog fault_log;
bool handling_fault = false;

uint32_t check_of(const FaultLog& log) { return crc32(&log, offsetof(FaultLog, check)); }

bool log_is_valid() { return fault_log.check == check_of(fault_log); }

// What the processor pushed when it took the exception: ARM B1.5.6.
struct StackedFrame {
  uint32_t r0, r1, r2, r3, r12, lr, pc, xpsr;
};
constexpr uint32_t kFrameWithoutFpu = 1u << 4;  // In EXC_RETURN.
constexpr uint32_t kFpuFrameBytes = 104;
constexpr uint32_t kFrameAligned = 1u << 9;  // In the pushed xPSR.

bool frame_is_readable(uint32_t address) {
  constexpr uint32_t kStackingFailed = scb::kCfsrMemManageStacking | scb::kCfsrBusFaultStacking;
  return address >= address_of(__ram_start) &&
         address <= address_of(__ram_end) - sizeof(StackedFrame) && address % 4 == 0 &&
         (scb::kCfsr.read() & kStackingFailed) == 0;
}

FaultRecord capture(uint32_t frame_address, uint32_t exc_return) {
  FaultRecord record = {};
  asm volatile("mrs %0, ipsr" : "=r"(record.exception));
  record.sp = frame_address;
  if (frame_is_readable(frame_address)) {
    const auto& frame = *reinterpret_cast<const StackedFrame*>(frame_address);
    record.pc = frame.pc;
    record.lr = frame.lr;
    record.xpsr = frame.xpsr;
    record.sp += (exc_return & kFrameWithoutFpu) ? sizeof(StackedFrame) : kFpuFrameBytes;
    record.sp += (frame.xpsr & kFrameAligned) ? 4 : 0;
    record.r0 = frame.r0;
    record.r1 = frame.r1;
    record.r2 = frame.r2;
    record.r3 = frame.r3;
    record.r12 = frame.r12;
  }
  record.cfsr = scb::kCfsr.read();
  record.hfsr = scb::kHfsr.read();
  record.mmfar = scb::kMmfar.read();
  record.bfar = scb::kBfar.read();
  return record;
}

}  // namespace

const FaultRecord* last_fault() { return log_is_valid() ? &fault_log.record : nullptr; }

uint32_t fault_count() { return log_is_valid() ? fault_log.count : 0; }

void reset_chip() {
  flush_uart();
  data_barrier();
  scb::kAircr.write(scb::kAircrKey | scb::kAircrSystemReset);
  data_barrier();
  for (;;) {
  }
}

extern "C" [[noreturn, gnu::used]] void handle_fault(uint32_t frame_address, uint32_t exc_return) {
  // A fault in here again: telling the host does not work, but a reset still may.
  if (handling_fault) reset_chip();
  handling_fault = true;
  const uint32_t earlier = fault_count();
  fault_log.record = capture(frame_address, exc_return);
  fault_log.count = earlier + 1;
  fault_log.check = check_of(fault_log);
  harness().report_fault(fault_log.record);
  reset_chip();
}

}  // namespace tinyboost::chip

// After a stack overflow the stack pointer is of no use, and nothing may be pushed: it then starts
// again at the top. Elsewhere it stays, for the frame that the processor pushed may lie there.
// 512 bytes are more than the handler needs.
extern "C" [[gnu::naked]] void fault_entry() {
  asm volatile(
      "mrs r0, msp\n"
      "mov r1, lr\n"
      "ldr r2, =__stack_bottom + 512\n"
      "ldr r3, =__stack_top\n"
      "cmp r0, r2\n"
      "blo 1f\n"
      "cmp r0, r3\n"
      "bls 2f\n"
      "1: msr msp, r3\n"
      "2: b handle_fault\n"
      ".ltorg\n");
}
