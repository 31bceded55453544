"""The array of 64-bit words that a trace of caches and branches shares with its native callbacks."""

# What is counted; the order of `trace.Events`.
MISPREDICTIONS = 0  # of branches
CODE_FILLS = 1  # lines of flash that the instruction cache took
CONSTANT_FILLS = 2  # lines of flash that the data cache took
DATA_FILLS = 3  # lines of RAM that the data cache took for a load
STORE_FILLS = 4  # lines of RAM that it took for a store
WRITE_BACKS = 5  # lines that it wrote back
UNALIGNED_LOADS = 6
COUNTERS = 7

# Address ranges behind the caches: first and one past the last.
FLASH_START = COUNTERS
FLASH_END = COUNTERS + 1
RAM_START = COUNTERS + 2
RAM_END = COUNTERS + 3

BLOCK_END = COUNTERS + 4  # of the block that ran last
RANDOM = COUNTERS + 5

# Caches, DS10916 section 3.1: 4 KB each, of lines of 32 bytes. A word holds a line's number and, in the data
# cache, whether it was written to; 0 is no line.
LINE_SHIFT = 5
CODE_WAYS = 2
CODE_SETS = 64
DATA_WAYS = 4
DATA_SETS = 32
CODE_CACHE = RANDOM + 1
DATA_CACHE = CODE_CACHE + CODE_SETS * CODE_WAYS
DIRTY = 1 << 40

# Branches, by the address after them: that address, where it went last, and how surely it goes there.
BRANCHES = DATA_CACHE + DATA_SETS * DATA_WAYS
BRANCH_SETS = 256
BRANCH_WORDS = 3
SURE = 3
LIKELY = 2

WORDS = BRANCHES + BRANCH_SETS * BRANCH_WORDS
