"""RCC, PWR and the flash interface: what start-up code sets before the chip runs at full speed."""

from __future__ import annotations

from collections.abc import Callable

from tools.virtual_board.peripherals.base import Peripheral, Surroundings

_CR, _PLLCFGR, _CFGR, _CSR = 0x00, 0x04, 0x08, 0x74
_RESET_REGISTERS = (0x10, 0x14, 0x18, 0x20, 0x24)
_AHB1ENR, _APB1ENR, _APB2ENR = 0x30, 0x40, 0x44
_DCKCFGR2 = 0x90
_RCC_RESETS = {
    _CR: 0x0000_0083,
    _PLLCFGR: 0x2400_3010,
    _CFGR: 0,
    0x0C: 0,
    **dict.fromkeys(_RESET_REGISTERS, 0),
    _AHB1ENR: 0x0010_0000,
    0x34: 0,
    0x38: 0,
    _APB1ENR: 0,
    _APB2ENR: 0,
    0x50: 0x7EF7_B7FF,
    0x54: 0x0000_00F1,
    0x58: 0x0000_0003,
    0x60: 0xFFFF_CBFF,
    0x64: 0x04F7_7F33,
    0x70: 0,
    _CSR: 0x0E00_0000,
    0x80: 0,
    0x84: 0x2400_3000,
    0x88: 0x2400_3000,
    0x8C: 0,
    _DCKCFGR2: 0,
}

_HSION, _HSIRDY = 1 << 0, 1 << 1
_HSEON, _HSERDY = 1 << 16, 1 << 17
_PLLON, _PLLRDY = 1 << 24, 1 << 25
_ENABLE_AND_READY = (
    (_HSION, _HSIRDY),
    (_HSEON, _HSERDY),
    (_PLLON, _PLLRDY),
    (1 << 26, 1 << 27),
    (1 << 28, 1 << 29),
)
_PLLSRC_HSE = 1 << 22
_LSION, _LSIRDY, _RMVF = 1 << 0, 1 << 1, 1 << 24
_POWER_FLAGS, _SOFTWARE_FLAGS, _ALL_FLAGS = 0x0E00_0000, 0x1400_0000, 0xFE00_0000

_HSI_HZ = 16_000_000
_HSI, _HSE, _PLL = 0, 1, 2
# RM0385 3.3.2 table 5 (2.7 ... 3.6 V), 5.2 and DS10916 table 17.
_HZ_PER_WAIT_STATE = 30_000_000
_OVER_DRIVE_FROM_HZ = 180_000_000
_LIMITS_HZ = {"AHB": 216_000_000, "APB1": 54_000_000, "APB2": 108_000_000}


class Flash(Peripheral):
    """The flash interface: wait states and accelerator; programming is not modelled."""

    def __init__(self, board: Surroundings) -> None:
        resets = {0x00: 0, 0x04: 0, 0x08: 0, 0x0C: 0, 0x10: 0x8000_0000, 0x14: 0xC0FF_AAFD, 0x18: 0x0040_0080}
        super().__init__("FLASH", 0x4002_3C00, resets, board)

    @property
    def wait_states(self) -> int:
        """Wait states of a flash access."""
        return self.values[0x00] & 0xF


class Rcc(Peripheral):
    """Clock control. A clock is ready from the second look at its ready bit on: firmware must wait."""

    def __init__(self, hse_hz: int, flash: Flash, board: Surroundings) -> None:
        super().__init__("RCC", 0x4002_3800, _RCC_RESETS, board)
        self._hse_hz = hse_hz
        self._flash = flash
        self._starting = 0
        self.over_drive: Callable[[], bool] = lambda: False
        self.on_peripheral_reset: Callable[[int, int], None] = lambda _register, _bits: None

    def reset(self) -> None:
        """Return to the state after a system reset, which CSR records and the RTC domain survives."""
        kept = {offset: self.values[offset] for offset in (0x70, _CSR)}
        super().reset()
        self.values |= kept
        self.values[_CSR] = kept[_CSR] & ~(_LSION | _LSIRDY) | _SOFTWARE_FLAGS
        self._starting = 0

    def power_up(self) -> None:
        """Return to the state after power-up."""
        super().reset()

    def read(self, offset: int) -> int:
        """Return a register; looking at CR lets clocks that were just enabled become ready."""
        value = self.values[offset]
        if offset == _CR and self._starting:
            self.values[_CR] |= self._starting
            self._starting = 0
        return value

    def store(self, offset: int, value: int) -> None:
        """Take a register's new value."""
        if offset == _CR:
            self._store_control(value)
        elif offset == _CFGR:
            self._store_configuration(value)
        elif offset == _CSR:
            self._store_status(value)
        elif offset == _PLLCFGR and self.values[_CR] & _PLLON:
            self.board.warn("RCC_PLLCFGR is written while the PLL is on: the write has no effect")
        else:
            if offset in _RESET_REGISTERS:
                self.on_peripheral_reset(offset, value)
            self.values[offset] = value

    def _store_status(self, value: int) -> None:
        flags = 0 if value & _RMVF else self.values[_CSR] & _ALL_FLAGS
        ready = _LSIRDY if value & _LSION else 0
        self.values[_CSR] = flags | value & _LSION | ready

    def _store_control(self, value: int) -> None:
        ready_bits = sum(ready for _, ready in _ENABLE_AND_READY)
        source = self.values[_CFGR] >> 2 & 3
        used = _ENABLE_AND_READY[source][0]
        if not value & used:
            self.board.warn("RCC_CR turns off the clock that drives the core: the write has no effect")
            value |= used
        new = value & ~ready_bits
        for enable, ready in _ENABLE_AND_READY:
            if new & enable:
                new |= self.values[_CR] & ready
                if not new & ready and self._can_start(enable, new):
                    self._starting |= ready
            else:
                self._starting &= ~ready
        self.values[_CR] = new

    def _can_start(self, enable: int, control: int) -> bool:
        if enable != _PLLON:
            return True
        needed, name = (_HSERDY, "HSE") if self.values[_PLLCFGR] & _PLLSRC_HSE else (_HSIRDY, "HSI")
        if not control & needed:
            self.board.warn(f"the PLL is turned on before its source {name} is ready: it will not lock")
        return bool(control & needed)

    def _store_configuration(self, value: int) -> None:
        source = value & 3
        self.values[_CFGR] = value & ~0xC | self.values[_CFGR] & 0xC
        if source > _PLL or not self.values[_CR] & _ENABLE_AND_READY[source][1]:
            self.board.warn("RCC_CFGR selects a clock that is not ready: the core stays on the old one")
            return
        self.values[_CFGR] = value & ~0xC | source << 2
        self._check_limits()

    def _check_limits(self) -> None:
        core = self.core_hz
        for name, hz in (("AHB", core), ("APB1", self.apb1_hz), ("APB2", self.apb2_hz)):
            if hz > _LIMITS_HZ[name]:
                self.board.warn(f"{name} runs at {hz} Hz, above its limit of {_LIMITS_HZ[name]} Hz")
        needed = (core - 1) // _HZ_PER_WAIT_STATE
        if self._flash.wait_states < needed:
            self.board.warn(
                f"the core runs at {core} Hz with {self._flash.wait_states} flash wait states; "
                f"it needs {needed}: the chip would read garbage"
            )
        if core > _OVER_DRIVE_FROM_HZ and not self.over_drive():
            self.board.warn(f"the core runs at {core} Hz without over-drive")

    @property
    def _pll_hz(self) -> int:
        configuration = self.values[_PLLCFGR]
        source = self._hse_hz if configuration & _PLLSRC_HSE else _HSI_HZ
        m, n = configuration & 0x3F, configuration >> 6 & 0x1FF
        p = 2 * ((configuration >> 16 & 3) + 1)
        return source * n // m // p if m else 0

    @property
    def pll_ready(self) -> bool:
        """Whether the PLL has locked."""
        return bool(self.values[_CR] & _PLLRDY)

    @property
    def system_hz(self) -> int:
        """SYSCLK in Hz."""
        return (_HSI_HZ, self._hse_hz, self._pll_hz)[self.values[_CFGR] >> 2 & 3]

    @property
    def core_hz(self) -> int:
        """HCLK in Hz."""
        code = self.values[_CFGR] >> 4 & 15
        shift = (1, 2, 3, 4, 6, 7, 8, 9)[code & 7] if code & 8 else 0
        return self.system_hz >> shift

    def _apb_hz(self, code: int) -> int:
        return self.core_hz >> ((code & 3) + 1 if code & 4 else 0)

    @property
    def apb1_hz(self) -> int:
        """PCLK1 in Hz."""
        return self._apb_hz(self.values[_CFGR] >> 10 & 7)

    @property
    def apb2_hz(self) -> int:
        """PCLK2 in Hz."""
        return self._apb_hz(self.values[_CFGR] >> 13 & 7)

    @property
    def usart1_hz(self) -> int:
        """Clock of USART1 in Hz."""
        choices = (self.apb2_hz, self.system_hz, _HSI_HZ, 32_768)
        return choices[self.values[_DCKCFGR2] & 3]

    def gpio_clocked(self, port: int) -> bool:
        """Whether the clock of GPIO port 0 (A) ... 10 (K) runs."""
        return bool(self.values[_AHB1ENR] >> port & 1)

    @property
    def pwr_clocked(self) -> bool:
        """Whether the clock of PWR runs."""
        return bool(self.values[_APB1ENR] & 1 << 28)

    @property
    def usart1_clocked(self) -> bool:
        """Whether the clock of USART1 runs."""
        return bool(self.values[_APB2ENR] & 1 << 4)


_CR1, _CSR1 = 0x00, 0x04
_ODEN, _ODSWEN = 1 << 16, 1 << 17
_VOSRDY = 1 << 14


class Pwr(Peripheral):
    """Voltage scaling and over-drive."""

    def __init__(self, rcc: Rcc, board: Surroundings) -> None:
        super().__init__("PWR", 0x4000_7000, {_CR1: 0x0000_C000, _CSR1: 0, 0x08: 0, 0x0C: 0}, board)
        self._rcc = rcc

    @property
    def clocked(self) -> bool:
        """Whether RCC_APB1ENR.PWREN is set."""
        return self._rcc.pwr_clocked

    @property
    def over_drive(self) -> bool:
        """Whether the regulator has switched to over-drive."""
        return self.values[_CR1] & (_ODEN | _ODSWEN) == _ODEN | _ODSWEN

    def store(self, offset: int, value: int) -> None:
        """Take a register's new value; ready bits follow at once."""
        if offset == _CR1:
            switch_early = value & _ODSWEN and not self.values[_CSR1] & _ODEN
            if switch_early:
                self.board.warn("PWR_CR1.ODSWEN is set before over-drive is ready (ODRDY)")
                value &= ~_ODSWEN
            self.values[_CSR1] = self.values[_CSR1] & ~(_ODEN | _ODSWEN) | value & (_ODEN | _ODSWEN) | _VOSRDY
        if offset != _CSR1:
            self.values[offset] = value
