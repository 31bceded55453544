// USART1 on PA9 and PB7, wired to the ST-LINK's virtual serial port (UM1907). Polled.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinyboost::chip {

// Starts the UART at the baud rate of board.toml; `clock_hz` is the clock of APB2.
void start_uart(uint32_t clock_hz);

uint8_t receive_byte();
void send_bytes(const uint8_t* data, size_t size);

// Waits until the last byte has left the chip.
void flush_uart();

}  // namespace tinyboost::chip
