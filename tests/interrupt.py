"""KeyboardInterrupt at one line or bytecode, without a timer."""

import sys
from collections.abc import Collection
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """Context manager: raise KeyboardInterrupt in this thread at the line or bytecode `at` of its block, from 0.

    Args:
        at: which of the points.
        files: names of the files whose functions are interrupted; None for all but those of the tests.

    Attributes:
        points: lines and bytecodes that the block came to.
    """

    def __init__(self, at: int, files: Collection[str] | None) -> None:
        self.points = 0
        self._at, self._files = at, files

    def __enter__(self) -> "Interrupt":
        sys.settrace(self._on_call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.settrace(None)

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> Any:  # noqa: ARG002
        name = frame.f_code.co_filename
        if name == __file__ or "test_" in name or not (self._files is None or name in self._files):
            return None
        frame.f_trace_opcodes = True
        return self._on_point

    def _on_point(self, frame: FrameType, event: str, arg: Any) -> Any:  # noqa: ARG002
        if event in ("line", "opcode"):
            self.points += 1
            if self.points == self._at + 1:
                raise KeyboardInterrupt
        return self._on_point
