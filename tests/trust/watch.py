"""What becomes of damaged files, and the most memory and time that one of them takes."""

import sys
import time
from pathlib import Path

from xpnn.backends import XpnnError
from xpnn.nn.files.text import is_plain

MIB = 2**20
LONGEST_MESSAGE = 1000  # characters: a file cannot fill the terminal with itself


class Watch:
    """Counts files that are loaded.

    Attributes:
        files: how many there were.
        refused: how many an `XpnnError` refused.
        memory: bytes that the process had at most while it loaded one, above what it had before.
        seconds: the longest time that one took of the processor.
    """

    def __init__(self):
        self.files = self.refused = self.memory = 0
        self.seconds = 0.0

    def load(self, load, file, check):
        """Load a file: any error but an `XpnnError` gets through, and what is loaded must pass the check."""
        before = resident()
        start = time.thread_time()  # others have the processor too
        try:
            loaded, message = load(file), None
        except XpnnError as error:
            loaded, message = None, str(error)
        self.seconds = max(self.seconds, time.thread_time() - start)
        self.memory = max(self.memory, peak() - before)
        self.files += 1
        if message is None:
            check(loaded)
            return
        self.refused += 1
        assert is_plain(message), message  # no more lines, and nothing that a terminal obeys
        assert 0 < len(message) < LONGEST_MESSAGE

    def __str__(self):
        memory = f"at most {self.memory / MIB:.0f} MiB, " if sys.platform == "linux" else ""
        return (
            f"{self.files:,} files: {self.refused:,} refused by name, {self.files - self.refused:,} loaded and valid; "
            f"{memory}slowest {1000 * self.seconds:.0f} ms"
        )


def resident():
    """Forget the largest memory that this process had, and return what it has, in bytes; 0 where Linux is not."""
    if sys.platform != "linux":
        return 0
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak():
    """Return the largest memory since `resident`, in bytes; 0 where Linux is not."""
    return _status("VmHWM") if sys.platform == "linux" else 0


def _status(name):
    return int(Path("/proc/self/status").read_bytes().split(name.encode() + b":")[1].split()[0]) * 1024
