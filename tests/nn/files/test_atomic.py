"""Files that are there whole or not at all, on file systems that refuse something."""

import errno
import os
from pathlib import Path

import pytest
from xpnn.backends import StorageError
from xpnn.nn.files import atomic as files


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_sync_a_folder(number: int, raises: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:  # noqa: ARG001
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", refuse)
    if raises:
        with pytest.raises(OSError, match=os.strerror(number)):
            files.sync_folder(Path())
    else:
        files.sync_folder(Path())


def test_a_file_that_is_held_for_a_moment_is_renamed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, while a scanner looks at it."""
    replace, refusals, pauses = Path.replace, [2], []

    def held(self: Path, target: Path) -> Path:
        if refusals[0]:
            refusals[0] -= 1
            raise PermissionError(errno.EACCES, "held")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", held)
    monkeypatch.setattr(files.time, "sleep", pauses.append)
    Path("new").write_text("new")
    files._rename(Path("new"), Path("old"), attempts=3)
    assert (Path("old").read_text(), len(pauses)) == ("new", 2)
    refusals[0] = 1
    with pytest.raises(StorageError, match="cannot write old: held"):
        files.write_atomically(Path("old"), b"newer", always_atomic=True)  # elsewhere it is tried once
    assert Path("old").read_text() == "new"
