"""The registers that firmware needs, one class a peripheral. RM: the reference manual RM0385."""
