"""Import of packages that would read settings from the working folder, which may be anybody's."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType


@contextmanager
def edited(module: str, text: str, replacement: str) -> Iterator[None]:
    """Context manager: if a module is first imported inside, then with `text` in its source replaced.

    Packages that read a file of the working folder as soon as they are imported leave no other way to prevent it but
    to change the working folder, which the other threads share. A module that is there already stays as it is.

    Args:
        module: full name.
        text: what the source of every supported version has; without it, the module is imported unchanged.
        replacement: what stands there instead.
    """
    finder = _Finder(module, text, replacement)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds one module where it is, with another loader."""

    def __init__(self, module: str, text: str, replacement: str) -> None:
        self._module, self._edit = module, (text, replacement)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._module:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path, self._edit)
        return spec


class _Loader(SourceFileLoader):
    """Compiles the edited source of a module; never from, or to, a `.pyc`."""

    def __init__(self, name: str, path: str, edit: tuple[str, str]) -> None:
        super().__init__(name, path)
        self._edit = edit

    def get_code(self, fullname: str) -> CodeType:
        return compile((self.get_source(fullname) or "").replace(*self._edit), self.path, "exec", dont_inherit=True)
