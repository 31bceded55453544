"""What runs inside the emulator at full speed: the block counter and the checks that Unicorn lacks."""
