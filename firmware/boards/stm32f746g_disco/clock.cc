#include "clock.h"

#include "registers.h"

namespace tinyboost::chip {
namespace {

constexpr Clocks kInternal = {16'000'000, 16'000'000};

// RM0385 5.2.3: 25 MHz / M = 1 MHz into the PLL, * N = 432 MHz, / P = 216 MHz, / Q = 48 MHz.
constexpr uint32_t kPllM = 25;
constexpr uint32_t kPllN = 432;
constexpr uint32_t kPllP = 2;
constexpr uint32_t kPllQ = 9;
constexpr Clocks kFull = {TINYBOOST_HSE_HZ / kPllM * kPllN / kPllP,
                          TINYBOOST_HSE_HZ / kPllM * kPllN / kPllP / 2};
static_assert(kFull.core_hz == TINYBOOST_CLOCK_HZ, "board.toml and the PLL disagree");

// RM0385 table 5: 210 to 216 MHz at 2.7 to 3.6 V.
constexpr uint32_t kFlashWaitStates = 7;

// UM1907: X2 feeds OSC_IN. Like ST's own examples for this board this does not set HSEBYP.
bool start_external_oscillator() {
  rcc::kCr.set(rcc::kCrHseOn);
  return rcc::kCr.wait_for(rcc::kCrHseReady, rcc::kCrHseReady);
}

// RM0385 4.1.4: the order of PLL and over-drive.
bool start_pll() {
  rcc::kApb1Enr.set(rcc::kApb1EnrPwr);
  pwr::kCr1.set(pwr::kCr1Scale1);
  rcc::kPllCfgr.replace(rcc::kPllCfgrFields, rcc::pll_cfgr_m(kPllM) | rcc::pll_cfgr_n(kPllN) |
                                                 rcc::pll_cfgr_p(kPllP) | rcc::pll_cfgr_q(kPllQ) |
                                                 rcc::kPllCfgrSourceHse);
  rcc::kCr.set(rcc::kCrPllOn);
  pwr::kCr1.set(pwr::kCr1OverDrive);
  if (!pwr::kCsr1.wait_for(pwr::kCsr1OverDriveReady, pwr::kCsr1OverDriveReady)) return false;
  pwr::kCr1.set(pwr::kCr1OverDriveSwitch);
  if (!pwr::kCsr1.wait_for(pwr::kCsr1OverDriveSwitchReady, pwr::kCsr1OverDriveSwitchReady)) {
    return false;
  }
  return rcc::kCr.wait_for(rcc::kCrPllReady, rcc::kCrPllReady);
}

bool set_flash_wait_states() {
  flash::kAcr.set(flash::kAcrArtReset);
  flash::kAcr.write(kFlashWaitStates | flash::kAcrPrefetch | flash::kAcrArt);
  return flash::kAcr.wait_for(flash::kAcrLatency, kFlashWaitStates);
}

bool switch_to_pll() {
  rcc::kCfgr.replace(rcc::kCfgrPrescalers, rcc::kCfgrApb1Over4 | rcc::kCfgrApb2Over2);
  rcc::kCfgr.replace(rcc::kCfgrSwitch, rcc::kCfgrSwitchPll);
  if (rcc::kCfgr.wait_for(rcc::kCfgrStatus, rcc::kCfgrStatusPll)) return true;
  rcc::kCfgr.replace(rcc::kCfgrSwitch | rcc::kCfgrPrescalers, 0);
  return false;
}

}  // namespace

Clocks start_clocks() {
  const bool full =
      start_external_oscillator() && start_pll() && set_flash_wait_states() && switch_to_pll();
  return full ? kFull : kInternal;
}

}  // namespace tinyboost::chip
