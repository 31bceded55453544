"""The STM32F746: core, memories and registers, wired together."""

from __future__ import annotations

from collections.abc import Callable

from unicorn import unicorn_const as const

from common.errors import ConfigError
from converter.board import Board
from tools.virtual_board.cpu import Cpu
from tools.virtual_board.exceptions import FIRST_INTERRUPT, Exceptions
from tools.virtual_board.image import Image
from tools.virtual_board.memory import Memory
from tools.virtual_board.native import layout as at
from tools.virtual_board.peripherals.base import Bus, Peripheral
from tools.virtual_board.peripherals.clocks import Flash, Pwr, Rcc
from tools.virtual_board.peripherals.dwt import Dwt
from tools.virtual_board.peripherals.gpio import PORTS, Gpio
from tools.virtual_board.peripherals.interrupts import Nvic, SysTick
from tools.virtual_board.peripherals.mpu import Mpu, Restriction
from tools.virtual_board.peripherals.system import SystemControl
from tools.virtual_board.peripherals.usart import INTERRUPT as USART1_INTERRUPT
from tools.virtual_board.peripherals.usart import Usart1

_UART = ("USART1", "PA9", "PB7")
_PAGE = 0x1000  # of Unicorn's memory map
_AHB1RSTR, _APB1RSTR, _APB2RSTR = 0x10, 0x20, 0x24
_DBGMCU_IDCODE = 0x1000_0449  # RM0385 40.6.1


class Chip:
    """All of the chip, in its state after power-up; it calls `on_warning` when firmware misuses it."""

    def __init__(self, board: Board, image: Image, on_warning: Callable[[str], None]) -> None:
        if (board.uart.peripheral, board.uart.tx, board.uart.rx) != _UART:
            raise ConfigError(f"{board.name}: the virtual board has its UART on {' '.join(_UART)} only")
        self.board = board
        self.image = image
        self.memory = Memory(board)
        for segment in image.segments:
            self.memory.write(segment.load, segment.data)
        self.cpu = Cpu(self.memory)
        self.exceptions = Exceptions(self.cpu, self.memory)
        self.reset_requested = False
        self._on_warning = on_warning
        self._divisions_trapped = False
        self._watched: set[int] = set()  # pages in which something must not be executed
        self._boot = board.flash.aliases[0] if board.flash.aliases else board.flash.origin
        self._build_peripherals()
        self._map_registers()
        self.system_reset()
        self.rcc.power_up()

    # What peripherals know of the chip.

    def warn(self, text: str) -> None:
        """Report a use that the real chip would punish."""
        self._on_warning(text)

    def now(self) -> int:
        """Return the instructions executed so far, to within one block."""
        return self.cpu.total

    def rest(self) -> None:
        """Stop before the next block, so that what has changed can be looked at."""
        self.cpu.stop()

    def _exact_now(self) -> int:
        return self.cpu.instructions_before(self.cpu.pc)

    # Wiring.

    def _build_peripherals(self) -> None:
        flash = Flash(self)
        self.rcc = Rcc(self.board.chip.hse_hz, flash, self)
        pwr = Pwr(self.rcc, self)
        ports = {port: Gpio(port, self.rcc, self) for port in PORTS}
        pins = (ports["A"], ports["B"])
        self.usart = Usart1(self.rcc, pins, self.board.uart.baud, self.memory.words, self)
        self.system = SystemControl(self.exceptions, self._boot, self)
        self.systick = SysTick(self.exceptions, self)
        mpu = Mpu(self)
        dwt = Dwt(self._exact_now, lambda: self.system.trace_enabled, self)
        debug = Peripheral("DBGMCU", 0xE004_2000, {0x0: _DBGMCU_IDCODE, 0x4: 0, 0x8: 0, 0xC: 0}, self)
        self.rcc.over_drive = lambda: pwr.over_drive
        self.rcc.on_peripheral_reset = self._reset_peripherals
        self.system.on_reset_request = self._request_reset
        self.system.on_fpu_access = self._grant_fpu
        self.system.on_trap_divisions = self._trap_divisions
        mpu.on_change = self._restrict
        nvic = Nvic(self.exceptions, self)
        self._resettable = {(_AHB1RSTR, bit): ports[port] for bit, port in enumerate(PORTS)} | {
            (_APB1RSTR, 28): pwr,
            (_APB2RSTR, 4): self.usart,
        }
        core = [self.system, self.systick, mpu, nvic, debug]
        self.peripherals = [self.usart, flash, self.rcc, pwr, dwt, *ports.values(), *core]

    def _map_registers(self) -> None:
        bus = Bus(self.peripherals, self)
        uart_page = self.usart.base & -_PAGE

        def write(address: int, size: int, value: int) -> None:
            if address & -_PAGE != uart_page:
                self.usart.reconsider()
            bus.write(address, size, value)

        for address in bus.addresses:
            self.memory.allow_register(address)
        for page in sorted({address & -_PAGE for address in bus.addresses}):
            self.cpu.map_registers(page, _PAGE, bus.read, write, quick_uart=page == uart_page)

    # What registers do to the rest of the chip.

    def _request_reset(self) -> None:
        self.reset_requested = True
        self.cpu.stop()

    def _reset_peripherals(self, register: int, bits: int) -> None:
        for (reset_register, bit), peripheral in self._resettable.items():
            if reset_register == register and bits >> bit & 1:
                peripheral.reset()

    def _grant_fpu(self, granted: bool) -> None:
        self.memory.words[at.FPU_OFF] = not granted

    def _trap_divisions(self) -> None:
        if not self._divisions_trapped:
            self._divisions_trapped = True
            self.cpu.trap_divisions(self.image.divisions())

    def _restrict(self, number: int, restriction: Restriction | None) -> None:
        self.cpu.forget_translations()
        if restriction is None:
            self.memory.restrict(number, 0, 0, 0)
            return
        start, end = restriction.start, restriction.end
        self.memory.restrict(number, start, end, restriction.allowed)
        if restriction.allowed & at.MPU_EXECUTE:
            return
        for region in self.board.memory:
            for origin in (region.origin, *region.aliases):
                first = max(start, origin) & -_PAGE
                for page in range(first, min(end, origin + region.size), _PAGE):
                    self._watch_execution(page)

    def _watch_execution(self, page: int) -> None:
        if page not in self._watched:
            self._watched.add(page)
            self.cpu.protect(page, _PAGE, self.memory.normal_access(page) & ~const.UC_PROT_EXEC)

    # Running.

    def system_reset(self) -> None:
        """Reset core and peripherals; memories keep their contents."""
        self.reset_requested = False
        self.exceptions.reset()
        for peripheral in self.peripherals:
            peripheral.reset()
        stack, start = (self.memory.read_word(self._boot + offset) or 0 for offset in (0, 4))
        self.cpu.reset(stack, start)

    def update_interrupts(self) -> None:
        """Make the exceptions pending whose time has come or whose line is active."""
        self.systick.advance()
        number = FIRST_INTERRUPT + USART1_INTERRUPT
        state = self.exceptions.state
        if number in state.interrupts_enabled and number not in state.active and self.usart.interrupt:
            state.pending.add(number)
