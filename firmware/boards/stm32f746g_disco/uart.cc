#include "uart.h"

#include "registers.h"

namespace tinyboost::chip {
namespace {

// Two bits of mode or pull, four of alternate function for each pin.
constexpr uint32_t kAlternateMode = 2;
constexpr uint32_t kPullUp = 1;
constexpr uint32_t kUsart1Function = 7;  // DS10916 table 12: AF7 on PA9 and PB7.

void connect_pins() {
  rcc::kAhb1Enr.set(rcc::kAhb1EnrGpioA | rcc::kAhb1EnrGpioB);
  rcc::kAhb1Enr.read();  // RM0385 5.2.11: the clock is on two cycles after the write.
  kGpioA.alternate_high.replace(15u << 4, kUsart1Function << 4);
  kGpioA.mode.replace(3u << 18, kAlternateMode << 18);
  kGpioB.alternate_low.replace(15u << 28, kUsart1Function << 28);
  kGpioB.pull.replace(3u << 14, kPullUp << 14);
  kGpioB.mode.replace(3u << 14, kAlternateMode << 14);
}

}  // namespace

void start_uart(uint32_t clock_hz) {
  connect_pins();
  rcc::kApb2Enr.set(rcc::kApb2EnrUsart1);
  rcc::kApb2Enr.read();
  usart1::kBrr.write((clock_hz + TINYBOOST_BAUD / 2) / TINYBOOST_BAUD);
  usart1::kCr1.write(usart1::kCr1Enable | usart1::kCr1Receive | usart1::kCr1Transmit);
}

uint8_t receive_byte() {
  constexpr uint32_t kErrors = usart1::kIsrOverrun | usart1::kIsrNoise | usart1::kIsrFraming;
  for (;;) {
    const uint32_t status = usart1::kIsr.read();
    // Bytes lost or damaged show in the frame's CRC.
    if (status & kErrors) usart1::kIcr.write(status & kErrors);
    if (status & usart1::kIsrReceived) return static_cast<uint8_t>(usart1::kRdr.read());
  }
}

void send_bytes(const uint8_t* data, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    usart1::kIsr.wait_for(usart1::kIsrTransmitEmpty, usart1::kIsrTransmitEmpty);
    usart1::kTdr.write(data[i]);
  }
}

void flush_uart() { usart1::kIsr.wait_for(usart1::kIsrTransmitted, usart1::kIsrTransmitted); }

}  // namespace tinyboost::chip
