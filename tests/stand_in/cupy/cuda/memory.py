"""Memory that ends at a limit, which a test sets."""

import sys

limit = float("inf")  # bytes of the largest array
blocking = []  # what each copy to the device was asked for


class OutOfMemoryError(MemoryError):
    def __init__(self, size, total):
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


class Pool:
    """Remembers how many bytes were still referred to when its free blocks were given back."""

    held_when_freed = None

    def free_all_blocks(self):
        self.held_when_freed = self.used_bytes()

    def used_bytes(self):
        return sum(each.nbytes for each in sys.modules["cupy"].held.values())


pool = Pool()
