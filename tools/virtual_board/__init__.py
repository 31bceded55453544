"""A virtual STM32F746: runs the very ELF that is flashed."""
