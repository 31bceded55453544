"""The suite that runs against the host build, the virtual board, Renode and the real board."""
