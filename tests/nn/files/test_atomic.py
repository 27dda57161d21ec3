"""Files that are there whole or not at all, on file systems that refuse something."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
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


@pytest.mark.parametrize("refuses", [False, True])
def test_macos_forces_a_file_through_the_drives_cache_if_it_can(refuses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    calls: list[tuple[int, int]] = []

    def force(descriptor: int, command: int) -> None:
        calls.append((descriptor, command))
        if refuses:
            raise OSError(errno.ENOTSUP, "not on this file system")

    monkeypatch.setattr(files.sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", force)
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: calls.append((descriptor, 0)))
    files._sync(7)
    assert calls == ([(7, 51), (7, 0)] if refuses else [(7, 51)])


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


# Destinations that are there already: as `np.save` and `open` leave them

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions, links and devices")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@posix
@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_permissions_of_the_umask_and_an_old_one_keeps_its_own() -> None:
    files.write_atomically(Path("new"), b"new")
    assert mode_of(Path("new")) == 0o640
    for mode in (0o600, 0o666, 0o751):
        Path("new").chmod(mode)
        files.write_atomically(Path("new"), b"newer")
        assert (mode_of(Path("new")), Path("new").read_bytes()) == (mode, b"newer")


@posix
def test_a_private_file_is_private_from_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("private").touch(mode=0o600)
    modes, fsync = [], os.fsync
    monkeypatch.setattr(
        files.os, "fsync", lambda number: modes.append(os.fstat(number).st_mode & 0o777) or fsync(number)
    )
    files.write_atomically(Path("private"), b"secret")
    assert modes[0] == 0o600


@posix
def test_a_file_that_may_only_be_read_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("kept").write_bytes(b"old")
    Path("kept").chmod(0o444)
    with monkeypatch.context() as patch:
        if os.geteuid() == 0:  # who may write anything
            patch.setattr(files.os, "access", lambda *_: False)
        with pytest.raises(StorageError, match="cannot write kept: Permission denied"):
            files.write_atomically(Path("kept"), b"new")
    assert (Path("kept").read_bytes(), mode_of(Path("kept"))) == (b"old", 0o444)


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


@posix
@pytest.mark.parametrize("target", ["file", "folder/missing", "folder/chain"])
def test_a_symbolic_link_is_followed(target: str) -> None:
    Path("folder").mkdir()
    Path("file").write_bytes(b"old")
    Path("folder/chain").symlink_to("end")
    Path("link").symlink_to(target)
    files.write_atomically(Path("link"), b"new")
    assert Path("link").is_symlink()
    assert Path("link").read_bytes() == Path(target).read_bytes() == b"new"
    assert not list(Path().rglob("*.tmp"))


@posix
def test_a_link_to_itself_or_into_no_folder_is_an_error() -> None:
    Path("loop").symlink_to("loop")
    Path("astray").symlink_to("nowhere/file")
    for name, reason in (("loop", "Too many levels"), ("astray", "No such file")):
        with pytest.raises(StorageError, match=f"cannot write {name}: {reason}"):
            files.write_atomically(Path(name), b"new")


@posix
def test_all_names_of_a_file_have_its_content_unless_it_must_be_atomic() -> None:
    Path("one").write_bytes(b"old and longer")
    Path("two").hardlink_to("one")
    files.write_atomically(Path("one"), b"new")
    assert (Path("two").read_bytes(), Path("one").stat().st_nlink) == (b"new", 2)
    files.write_atomically(Path("one"), b"newest", always_atomic=True)
    assert (Path("two").read_bytes(), Path("one").read_bytes()) == (b"new", b"newest")


@posix
def test_pipes_and_devices_are_written_to() -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_atomically(Path("pipe"), b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)
    Path("null").symlink_to(os.devnull)
    files.write_atomically(Path("null"), b"nothing")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    if Path("/dev/full").exists():
        with pytest.raises(StorageError, match="cannot write /dev/full: No space left"):
            files.write_atomically(Path("/dev/full"), b"too much")


@posix
def test_a_stdout_that_does_not_block_is_waited_for() -> None:
    code = "from pathlib import Path; from xpnn.nn.files import atomic as files\n"
    code += "files.write_atomically(Path('/dev/stdout'), bytes(300_000))"
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen([sys.executable, "-c", code], stdout=writer) as process, os.fdopen(reader, "rb") as pipe:
        os.close(writer)
        assert len(pipe.read()) == 300_000
    assert process.returncode == 0


@posix
def test_a_deleted_file_behind_a_descriptor_is_written_to() -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("descriptors have no names here")
    with Path("gone").open("w+b") as file:
        Path("gone").unlink()
        files.write_atomically(Path(f"/proc/self/fd/{file.fileno()}"), b"still here")
        assert file.read() == b"still here"
    assert not list(Path().iterdir())


@pytest.mark.parametrize("number", sorted(files.NOT_REPLACEABLE))
def test_a_file_that_cannot_be_replaced_is_overwritten(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder that is not writable, or where the file is mounted by itself."""
    Path("old").write_bytes(b"old and longer")
    monkeypatch.setattr(Path, "replace", lambda *_: fail(number))
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    files.write_atomically(Path("old"), b"new")
    assert Path("old").read_bytes() == b"new"
    with pytest.raises(StorageError, match="cannot write"):
        files.write_atomically(Path("absent"), b"new")
    assert [path.name for path in Path().iterdir()] == ["old"]


@posix
def test_a_file_of_another_owner_stays_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("shared").write_bytes(b"old")
    number, make = Path("shared").stat().st_ino, files.os.fstat
    monkeypatch.setattr(files.os, "fstat", lambda file: os.stat_result((*make(file)[:4], 4711, *make(file)[5:])))
    monkeypatch.setattr(files.os, "fchown", lambda *_: fail(errno.EPERM))
    files.write_atomically(Path("shared"), b"new")
    assert (Path("shared").read_bytes(), Path("shared").stat().st_ino) == (b"new", number)
    files.write_atomically(Path("shared"), b"newer", always_atomic=True)
    assert (Path("shared").read_bytes(), Path("shared").stat().st_ino != number) == (b"newer", True)


def test_a_name_as_long_as_names_may_be() -> None:
    path = Path("x" * 250)
    files.write_atomically(path, b"new")
    assert list(Path().iterdir()) == [path]
