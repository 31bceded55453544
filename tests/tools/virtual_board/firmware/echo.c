// Echoes bytes on USART1 at 115200 baud, 216 MHz. A byte 'R' resets the chip, 'F' faults, 'L' never comes
// back. The macros plant mistakes that the chip punishes.
#include <stdint.h>

#define REG(address) (*(volatile uint32_t*)(address))
#define RCC_CR REG(0x40023800)
#define RCC_PLLCFGR REG(0x40023804)
#define RCC_CFGR REG(0x40023808)
#define RCC_AHB1ENR REG(0x40023830)
#define RCC_APB1ENR REG(0x40023840)
#define RCC_APB2ENR REG(0x40023844)
#define PWR_CR1 REG(0x40007000)
#define PWR_CSR1 REG(0x40007004)
#define FLASH_ACR REG(0x40023C00)
#define GPIOA_MODER REG(0x40020000)
#define GPIOA_AFRH REG(0x40020024)
#define GPIOB_MODER REG(0x40020400)
#define GPIOB_AFRL REG(0x40020420)
#define USART_CR1 REG(0x40011000)
#define USART_BRR REG(0x4001100C)
#define USART_ISR REG(0x4001101C)
#define USART_ICR REG(0x40011020)
#define USART_RDR REG(0x40011024)
#define USART_TDR REG(0x40011028)
#define AIRCR REG(0xE000ED0C)

#ifndef BRR
#define BRR 938
#endif
#ifndef PIN_FUNCTION
#define PIN_FUNCTION 7
#endif
#ifndef WAIT_STATES
#define WAIT_STATES 7
#endif
#ifndef ECHOES
#define ECHOES 1
#endif
#ifndef WORK
#define WORK 0
#endif

static void wait(volatile uint32_t* reg, uint32_t mask) {
  while ((*reg & mask) != mask) {
  }
}

static void start_clocks(void) {
  RCC_APB1ENR |= 1u << 28;
  RCC_CR |= 1u << 16;
  wait(&RCC_CR, 1u << 17);
  RCC_PLLCFGR = 25 | 432 << 6 | 1 << 22 | 9 << 24;
  RCC_CR |= 1u << 24;
#ifndef NO_OVER_DRIVE
  PWR_CR1 |= 1u << 16;
  wait(&PWR_CSR1, 1u << 16);
  PWR_CR1 |= 1u << 17;
  wait(&PWR_CSR1, 1u << 17);
#endif
#ifndef NO_PLL_WAIT
  wait(&RCC_CR, 1u << 25);
#endif
  FLASH_ACR = WAIT_STATES;
  RCC_CFGR = 5 << 10 | 4 << 13;
  RCC_CFGR |= 2;
}

static void start_uart(void) {
#ifndef NO_GPIO_CLOCK
  RCC_AHB1ENR |= 3;
#endif
#ifndef NO_UART_CLOCK
  RCC_APB2ENR |= 1u << 4;
#endif
  GPIOA_AFRH |= PIN_FUNCTION << 4;
  GPIOA_MODER |= 2u << 18;
  GPIOB_AFRL |= PIN_FUNCTION << 28;
  GPIOB_MODER |= 2u << 14;
  USART_BRR = BRR;
  USART_CR1 = 1u << 0 | 1u << 2 | 1u << 3;
}

__attribute__((noinline)) static void put(uint8_t byte) {
#ifndef NO_TXE_WAIT
  wait(&USART_ISR, 1u << 7);
#endif
  USART_TDR = byte;
}

__attribute__((noinline)) static void reset(void) {
#ifndef NO_TC_WAIT
  wait(&USART_ISR, 1u << 6);
#endif
  AIRCR = 0x05FA0000 | 1u << 2;
  for (;;) {
  }
}

void test(void) {
  start_clocks();
  start_uart();
  for (;;) {
    while (!(USART_ISR & (1u << 5))) {
    }
    if (USART_ISR & (1u << 3)) USART_ICR = 1u << 3;
    const uint8_t byte = (uint8_t)USART_RDR;
    for (volatile uint32_t i = 0; i < WORK; ++i) {
    }
    for (int i = 0; i < ECHOES; ++i) put(byte);
    if (byte == 'R') reset();
    if (byte == 'F') *(volatile uint32_t*)0x30000000 = 1;
    if (byte == 'L') {
      for (;;) {
      }
    }
  }
}
