"""`python -m tools.cli`: the command, where it is not on PATH."""

from tools.cli import main

main()
