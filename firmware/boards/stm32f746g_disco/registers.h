// The registers of the STM32F746 that this firmware uses.
// RM: RM0385 reference manual. PM: PM0253 Cortex-M7 programming manual. ARM: DDI 0403E, Armv7-M.
#pragma once

#include <cstdint>

namespace tinyboost::chip {

class Register {
 public:
  constexpr explicit Register(uintptr_t address) : address_(address) {}

  uint32_t read() const { return *pointer(); }
  void write(uint32_t value) const { *pointer() = value; }
  void set(uint32_t mask) const { write(read() | mask); }
  // Gives the bits of `field` the value `bits`, which stand where they belong.
  void replace(uint32_t field, uint32_t bits) const { write((read() & ~field) | bits); }

  // Waits until the bits of `field` read `bits`; false where that takes too long.
  bool wait_for(uint32_t field, uint32_t bits) const {
    // At least 100 ms at 16 MHz, the longest start of the external oscillator.
    constexpr uint32_t kAttempts = 400'000;
    for (uint32_t attempt = 0; attempt < kAttempts; ++attempt) {
      if ((read() & field) == bits) return true;
    }
    return false;
  }

 private:
  volatile uint32_t* pointer() const { return reinterpret_cast<volatile uint32_t*>(address_); }

  uintptr_t address_;
};

// Reset and clock control: RM 5.3.
namespace rcc {
constexpr Register kCr{0x40023800};
constexpr uint32_t kCrHseOn = 1u << 16;
constexpr uint32_t kCrHseReady = 1u << 17;
constexpr uint32_t kCrPllOn = 1u << 24;
constexpr uint32_t kCrPllReady = 1u << 25;
constexpr Register kPllCfgr{0x40023804};
constexpr uint32_t kPllCfgrFields = 0x0F437FFF;  // Q, SRC, P, N, M; the others are reserved.
constexpr uint32_t kPllCfgrSourceHse = 1u << 22;
constexpr uint32_t pll_cfgr_m(uint32_t m) { return m; }
constexpr uint32_t pll_cfgr_n(uint32_t n) { return n << 6; }
constexpr uint32_t pll_cfgr_p(uint32_t p) { return (p / 2 - 1) << 16; }
constexpr uint32_t pll_cfgr_q(uint32_t q) { return q << 24; }
constexpr Register kCfgr{0x40023808};
constexpr uint32_t kCfgrSwitch = 3u << 0;
constexpr uint32_t kCfgrSwitchPll = 2u << 0;
constexpr uint32_t kCfgrStatus = 3u << 2;
constexpr uint32_t kCfgrStatusPll = 2u << 2;
constexpr uint32_t kCfgrPrescalers = 7u << 13 | 7u << 10 | 15u << 4;  // APB2, APB1, AHB.
constexpr uint32_t kCfgrApb1Over4 = 5u << 10;
constexpr uint32_t kCfgrApb2Over2 = 4u << 13;
constexpr Register kAhb1Enr{0x40023830};
constexpr uint32_t kAhb1EnrGpioA = 1u << 0;
constexpr uint32_t kAhb1EnrGpioB = 1u << 1;
constexpr Register kApb1Enr{0x40023840};
constexpr uint32_t kApb1EnrPwr = 1u << 28;
constexpr Register kApb2Enr{0x40023844};
constexpr uint32_t kApb2EnrUsart1 = 1u << 4;
}  // namespace rcc

// Power control, over-drive: RM 4.1.4, 4.4.
namespace pwr {
constexpr Register kCr1{0x40007000};
constexpr uint32_t kCr1Scale1 = 3u << 14;
constexpr uint32_t kCr1OverDrive = 1u << 16;
constexpr uint32_t kCr1OverDriveSwitch = 1u << 17;
constexpr Register kCsr1{0x40007004};
constexpr uint32_t kCsr1OverDriveReady = 1u << 16;
constexpr uint32_t kCsr1OverDriveSwitchReady = 1u << 17;
}  // namespace pwr

// Flash interface: RM 3.3.2 (wait states), 3.7.1.
namespace flash {
constexpr Register kAcr{0x40023C00};
constexpr uint32_t kAcrLatency = 15u << 0;
constexpr uint32_t kAcrPrefetch = 1u << 8;
constexpr uint32_t kAcrArt = 1u << 9;
constexpr uint32_t kAcrArtReset = 1u << 11;
}  // namespace flash

// Ports A and B: RM 6.4.
struct Gpio {
  Register mode;
  Register pull;
  Register alternate_low;
  Register alternate_high;

  constexpr explicit Gpio(uintptr_t base)
      : mode(base), pull(base + 0x0C), alternate_low(base + 0x20), alternate_high(base + 0x24) {}
};
constexpr Gpio kGpioA{0x40020000};
constexpr Gpio kGpioB{0x40020400};

// USART1: RM 31.8.
namespace usart1 {
constexpr Register kCr1{0x40011000};
constexpr uint32_t kCr1Enable = 1u << 0;
constexpr uint32_t kCr1Receive = 1u << 2;
constexpr uint32_t kCr1Transmit = 1u << 3;
constexpr Register kBrr{0x4001100C};
constexpr Register kIsr{0x4001101C};
constexpr uint32_t kIsrFraming = 1u << 1;
constexpr uint32_t kIsrNoise = 1u << 2;
constexpr uint32_t kIsrOverrun = 1u << 3;
constexpr uint32_t kIsrReceived = 1u << 5;
constexpr uint32_t kIsrTransmitted = 1u << 6;
constexpr uint32_t kIsrTransmitEmpty = 1u << 7;
constexpr Register kIcr{0x40011020};  // The bits of kIsr clear there.
constexpr Register kRdr{0x40011024};
constexpr Register kTdr{0x40011028};
}  // namespace usart1

// System control block: PM 4.3, ARM B3.2.
namespace scb {
constexpr Register kVtor{0xE000ED08};
constexpr Register kAircr{0xE000ED0C};
constexpr uint32_t kAircrKey = 0x05FAu << 16;
constexpr uint32_t kAircrSystemReset = 1u << 2;
constexpr Register kCcr{0xE000ED14};
constexpr uint32_t kCcrTrapDivideByZero = 1u << 4;
constexpr uint32_t kCcrDataCache = 1u << 16;
constexpr uint32_t kCcrInstructionCache = 1u << 17;
constexpr Register kShcsr{0xE000ED24};
constexpr uint32_t kShcsrMemManage = 1u << 16;
constexpr uint32_t kShcsrBusFault = 1u << 17;
constexpr uint32_t kShcsrUsageFault = 1u << 18;
constexpr Register kCfsr{0xE000ED28};
constexpr uint32_t kCfsrMemManageStacking = 1u << 4;
constexpr uint32_t kCfsrBusFaultStacking = 1u << 12;
constexpr Register kHfsr{0xE000ED2C};
constexpr Register kMmfar{0xE000ED34};
constexpr Register kBfar{0xE000ED38};
constexpr Register kCpacr{0xE000ED88};
constexpr uint32_t kCpacrFpu = 15u << 20;
constexpr Register kFpccr{0xE000EF34};
}  // namespace scb

// Caches: PM 4.5, 4.6.
namespace cache {
constexpr Register kSizeId{0xE000ED80};
constexpr Register kSizeSelection{0xE000ED84};
constexpr Register kInvalidateInstruction{0xE000EF50};
constexpr Register kInvalidateDataSetWay{0xE000EF60};
}  // namespace cache

// Memory protection unit: PM 4.6, ARM B3.5.
namespace mpu {
constexpr Register kControl{0xE000ED94};
constexpr uint32_t kControlEnable = 1u << 0;
constexpr uint32_t kControlDefaultMap = 1u << 2;  // For what no region covers.
constexpr Register kBaseAddress{0xE000ED9C};
constexpr uint32_t kBaseAddressValid = 1u << 4;  // The low bits name the region.
constexpr Register kAttributes{0xE000EDA0};
constexpr uint32_t kAttributesNoAccess = 1u << 28;  // XN, AP 0.
constexpr uint32_t attributes_size(uint32_t log2_bytes) { return (log2_bytes - 1) << 1 | 1; }
}  // namespace mpu

// Cycle counter: ARM C1.6.5, C1.8.
namespace dwt {
constexpr Register kDemcr{0xE000EDFC};
constexpr uint32_t kDemcrTraceEnable = 1u << 24;
constexpr Register kControl{0xE0001000};
constexpr uint32_t kControlCycleCounter = 1u << 0;
constexpr Register kCycleCounter{0xE0001004};
constexpr Register kLockAccess{0xE0001FB0};
constexpr uint32_t kLockAccessKey = 0xC5ACCE55;
}  // namespace dwt

inline void data_barrier() { asm volatile("dsb" ::: "memory"); }
inline void instruction_barrier() { asm volatile("isb" ::: "memory"); }
inline void barrier() {
  data_barrier();
  instruction_barrier();
}

}  // namespace tinyboost::chip
