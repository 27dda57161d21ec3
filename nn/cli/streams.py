"""Standard streams whose failures cost the work nothing.

A training must not end because its log's disk is full, its reader is gone or its terminal is closed. So `open_streams`
puts a `LenientRaw` below sys.stdout and sys.stderr. Whatever is written there, by a command, a progress bar, a logger,
a warning or a traceback, is written if possible; if something was lost, the exit code tells at the end.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import Any

NAMES = ("stdout", "stderr")
_raws: dict[str, LenientRaw] = {}  # by `open_streams`


class LenientRaw(io.RawIOBase):
    """Raw stream whose writes never fail.

    Args:
        raw: the stream to write to.

    Attributes:
        failure: error of the first write that failed, or None.
    """

    def __init__(self, raw: Any) -> None:
        self.failure: OSError | None = None
        self._raw = raw

    @property
    def name(self) -> Any:
        """Name or descriptor of the stream."""
        return self._raw.name

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return bool(self._raw.isatty())

    def fileno(self) -> int:
        """Return the descriptor."""
        return int(self._raw.fileno())

    def write(self, content: Any, /) -> int:
        """Write bytes, or drop them; return how many are done with."""
        try:
            while (written := self._raw.write(content)) is None:  # a pipe that does not block, and is full
                select.select([], [self._raw], [])
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(content).nbytes
        return int(written)


def open_streams() -> None:
    """Make sys.stdout and sys.stderr lenient, and keep closed descriptors from being given to files.

    A stream that a caller has replaced is used as it is.
    """
    _occupy_descriptors()
    raw: Any
    for name in NAMES:
        stream = getattr(sys, name)
        if stream is None:  # it is closed
            encoding, raw = "utf-8", io.FileIO(os.open(os.devnull, os.O_RDONLY), "w")
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            encoding, buffer = stream.encoding, stream.detach()
            raw = buffer.detach() if isinstance(buffer, io.BufferedWriter) else buffer
        else:
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            continue
        _raws[name] = LenientRaw(raw)
        # A character that the encoding lacks is shown by its number.
        text = io.TextIOWrapper(io.BufferedWriter(_raws[name]), encoding, "backslashreplace", line_buffering=True)
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)


def failures() -> dict[str, OSError]:
    """Return the first failure of each standard stream that has lost something."""
    for name in _raws:
        getattr(sys, name).flush()
    return {name: raw.failure for name, raw in _raws.items() if raw.failure is not None}


def write_last_words(text: str) -> None:
    """Write to stderr what fits at once: from a signal handler, which may have interrupted another write."""
    with suppress(OSError, ValueError, AttributeError):  # it has no descriptor, or is closed
        descriptor = sys.stderr.fileno()
        if os.name == "nt" or select.select([], [descriptor], [], 0)[1]:  # its reader may be stopped
            os.write(descriptor, text.encode(errors="backslashreplace"))


def _occupy_descriptors() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed on the null device.

    Else the next file to be opened, such as the lock of a run, would be what libraries take for stderr. The device is
    opened for reading alone, so that writing fails as it does on a closed descriptor.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)  # the lowest that is free: this one
