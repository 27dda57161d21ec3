"""Import of packages that would read settings from the working folder, which may be anybody's."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType


@contextmanager
def edited(module: str, text: str, replacement: str, *, file: str) -> Iterator[None]:
    """Context manager: if a module is first imported inside, then with `text` in its source replaced.

    Packages that read a file of the working folder as soon as they are imported leave no other way to prevent it but
    to change the working folder, which the other threads share. A module that is there already stays as it is.

    Args:
        module: full name.
        text: what the source of every supported version has.
        replacement: what stands there instead.
        file: name of the file of settings. Without `text` in its source, as in a version yet to come, the module is
            imported as it is, unless the working folder has this file.

    Raises:
        ImportError: the working folder has the file, and the module would read it.
    """
    finder = _Finder(module, text, replacement, file)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def import_numba() -> None:
    """Import Numba without the working folder's settings.

    Numba reads `.numba_config.yaml` there, at its import and at every compilation; some of its settings name folders of
    pickles, or classes to import. No file has an empty name.

    Raises:
        ImportError: Numba is not installed, or would read the file all the same.
    """
    name = ".numba_config.yaml"
    with edited("numba.core.config", repr(name), "''", file=name):
        import numba  # noqa: F401


class _Finder:
    """Finds one module where it is, with another loader."""

    def __init__(self, module: str, text: str, replacement: str, file: str) -> None:
        self._module, self._edit, self._file = module, (text, replacement), file

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._module:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path, self._edit, self._file)
        return spec


class _Loader(SourceFileLoader):
    """Compiles the edited source of a module; never from, or to, a `.pyc`."""

    def __init__(self, name: str, path: str, edit: tuple[str, str], file: str) -> None:
        super().__init__(name, path)
        self._edit, self._file = edit, file

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname) or ""
        if self._edit[0] not in source and Path(self._file).exists():
            raise ImportError(
                f"{self._file} lies in the working folder, where this version of {fullname} may read it: change to "
                "another folder"
            )
        return compile(source.replace(*self._edit), self.path, "exec", dont_inherit=True)
