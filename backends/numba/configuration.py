"""Import of Numba without the configuration file that it reads from the working folder.

Numba reads `.numba_config.yaml` at its import and at every compilation. The file can name a class to import and a
folder of pickled machine code, so whoever stands in an untrusted folder would run what lies there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

MODULE, FILE = "numba.core.config", ".numba_config.yaml"  # the module that reads it, and its name there


@contextmanager
def no_configuration_file() -> Iterator[None]:
    """Context manager: if Numba is first imported inside, it never reads its configuration file in this process.

    Environment variables (`NUMBA_...`) remain in force. Where Numba has been imported before, nothing changes.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds `numba.core.config` where it is, with another loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Loads the module with an empty name in place of the file's: no such file exists."""

    def get_code(self, fullname: str) -> CodeType | None:
        code = super().get_code(fullname)
        return code and code.replace(co_consts=tuple("" if each == FILE else each for each in code.co_consts))
