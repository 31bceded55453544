"""The command line, and everything on the host that touches a board."""
