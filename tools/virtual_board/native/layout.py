"""The one array of 64-bit words that Python and the native callbacks share.

Everything is addressed in words from its start: a header of counters and flags, a table of the 4 GB
address space in pages of 16 KB (the size of the chip's smallest memories), per halfword of real memory a
record of the block that starts there, the checks that some blocks need, and the contents of the chip's
memories themselves. Numba compiles these constants into the callbacks; this module itself must stay cheap
to import.
"""

PAGE_SHIFT = 14
PAGE_BYTES = 1 << PAGE_SHIFT
PAGE_HALFWORDS = PAGE_BYTES // 2
PAGES = 1 << (32 - PAGE_SHIFT)

# Header.
TOTAL = 0  # instructions executed, with all of the block that runs now
LIMIT = 1  # stop before a block once TOTAL is not below this
STOP_REASON = 2  # why a callback stopped, one of STOP_*
STOP_ADDRESS = 3  # the instruction that must not run, for STOP_CHECK
STOP_CHECK_KIND = 4  # one of CHECK_*
BLOCK_ADDRESS = 5  # the block that runs now
BLOCK_RECORD = 6  # its record
CHECKS_USED = 7  # words in use in the check area; starts at 1
DISPLACED_USED = 8  # records in use in the displaced area
FPU_OFF = 9  # 1 while CPACR denies access to the FPU
CHECKS_OFF = 10  # 1 while a block is replayed up to the instruction that a check found
ACCESS_KIND = 11  # first invalid access: Unicorn's UC_MEM_* number, 0 if none
ACCESS_ADDRESS = 12
ACCESS_SIZE = 13
ACCESS_VALUE = 14
CONTEXT = 15  # address of the uc_context that receives the state at an invalid access
MEMORY = 16  # word offset of the memories' contents
WRITABLE_FROM = 17  # first page of the memories that is not flash
SCRATCH_ADDRESS = 18  # host address of SCRATCH
SCRATCH = 19  # 16 words: register values or forms
BEFORE = 35  # 15 words: the forms before a conditional instruction
REGISTER_IDS = 50  # 16 words: Unicorn's numbers of r0 ... pc
STACK_MOVED = 66  # 1 where SP or an unknown part of the stack has changed since the block began
STACK_WRITTEN = 67  # one bit for each word of the stack that has changed, by its offset modulo 64 words
HEADER_WORDS = 68
REGISTERS = 15  # r0 ... r14

STOP_LIMIT = 1
STOP_CHECK = 2

CHECK_ALIGNMENT = 0  # a load or store that must be word-aligned is not
CHECK_FPU_OFF = 1  # a floating-point instruction while the FPU is off
CHECK_DOUBLE = 2  # double-precision arithmetic, which this FPU lacks
CHECK_UNDEFINED = 3  # an instruction that Unicorn has and the chip has not
CHECK_DIVISION = 4  # a division by zero while CCR traps it

# Memory protection unit: per region first address, address after its end, and what is allowed. The end is 0
# where the region is off.
MPU = HEADER_WORDS
MPU_REGIONS = 8
MPU_WORDS = 3
MPU_READ = 1
MPU_WRITE = 2
MPU_EXECUTE = 4

# Data in pages of memory that the MPU restricts is reached through a copy of the address space that consists
# of registers: Unicorn checks every access to registers, but only the first to a page of memory.
SHADOW = 1 << 32
SHADOW_PAGE_BYTES = 0x1000

# The receiver of the UART, so that bytes can be read without Python. RING holds those on their way.
UART = MPU + MPU_REGIONS * MPU_WORDS
UART_QUICK = UART  # 1 while the callback may answer: set up rightly, and nothing else going on
UART_STATUS = UART + 1  # what the status register reads then, without RXNE
UART_FULL = UART + 2  # 1 while a byte waits in the data register: the one at UART_TAIL
UART_TIME = UART + 3  # instruction count at which the last byte came
UART_BYTE_TIME = UART + 4  # instructions that a byte takes
UART_BURST = UART + 5  # 1 while the next byte is the first after a pause
UART_HEAD = UART + 6  # bytes put into the ring
UART_TAIL = UART + 7  # bytes taken out
UART_RING = UART + 8
UART_RING_BYTES = 1 << 12
UART_ISR = 0x1C
UART_RDR = 0x24
UART_RXNE = 1 << 5

# Page table: slot of the 16 KB page in BLOCKS and in the memories' contents; NO_PAGE; or -2 - k for the k-th
# register page.
PAGE_TABLE = UART_RING + UART_RING_BYTES
NO_PAGE = -1

# Register pages: one bit per 32-bit register, set where a register is modelled.
REGISTER_PAGES = 8
REGISTER_PAGE_WORDS = PAGE_BYTES // 4 // 64
REGISTER_BITMAPS = PAGE_TABLE + PAGES

# Checks: per block its number of checks, then two words each: the instruction's offset in the block, the kind
# and, of a form, all but the coefficients; then those, of r0 ... r14. Place 0 means none.
CHECKS = REGISTER_BITMAPS + REGISTER_PAGES * REGISTER_PAGE_WORDS
CHECK_WORDS = 1 << 17
CHECK_OFFSET_MASK = 0xFFFF
CHECK_KIND_SHIFT = 16
CHECK_KIND_MASK = 0xF
CHECK_FORM_SHIFT = 20

# Blocks whose record was taken by another block at the same address: address, record, hits.
DISPLACED = CHECKS + CHECK_WORDS
DISPLACED_RECORDS = 1 << 12
DISPLACED_WORDS = 3

# Blocks: per halfword of memory two words: how often the block ran; then its record: size in bytes,
# instructions, instructions of an IT block that it leaves to the next block, and from RECORD_CHECKS_SHIFT on
# the place of its checks.
BLOCKS = DISPLACED + DISPLACED_RECORDS * DISPLACED_WORDS
BLOCK_WORDS = 2
RECORD_SIZE_MASK = 0xFFFF
RECORD_COUNT_SHIFT = 16
RECORD_COUNT_MASK = 0x1FFF
RECORD_CONDITIONAL_SHIFT = 29
RECORD_CONDITIONAL_MASK = 7
RECORD_CHECKS_SHIFT = 32


def memory_offset(slots: int) -> int:
    """Word offset of the memories' contents, for `slots` pages of real memory."""
    return BLOCKS + slots * PAGE_HALFWORDS * BLOCK_WORDS


def total_words(slots: int) -> int:
    """Size of the shared array in words."""
    return memory_offset(slots) + slots * PAGE_BYTES // 8
