"""The kernel cache: read back, refused when damaged or not the user's own, and never in the way of a result."""

import errno
import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numba
import pytest
from numba.core import config
from xpnn.backends.numba.compiler import cache
from xpnn.backends.numba.compiler.cache import KernelCache, KernelFolder, default_path

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled under NUMBA_DISABLE_JIT=1")
posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has neither owners nor modes")


def double(x):
    return 2 * x


double.__module__ = cache.__name__  # whoever imports this file, under whatever name


def difference(pair):
    return pair.a - pair.b


def kernel_in(path, function=double):
    """The kernel of a process that has just started, with its cache in the folder `path`."""
    kernel, folder = numba.njit(function), KernelFolder(path)
    kernel._cache = KernelCache(function, {}, lambda: folder)
    return kernel


def hits(kernel):
    return sum(kernel.stats.cache_hits.values())


@pytest.fixture
def path(tmp_path):
    """The path of the cache's folder, which does not exist yet."""
    return tmp_path / "user" / "kernels"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The file of a kernel that has been compiled for one type."""
    path = tmp_path_factory.mktemp("written") / "kernels"
    assert kernel_in(path)(21) == 42
    (found,) = path.iterdir()
    assert [each.stat().st_mode & 0o777 for each in (path, found)] == [0o700, 0o600] or os.name == "nt"
    return found


@pytest.fixture
def entry(path, written):
    """A file of its own for each test."""
    path.mkdir(mode=0o700, parents=True)
    return Path(shutil.copy(written, path))


@pytest.fixture
def warnings(caplog):
    """`warnings()`: what was logged."""
    caplog.set_level(logging.INFO, logger="xpnn")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def assert_compiled_with_one_line(path, warnings):
    """`assert_compiled_with_one_line("reason")`: the right result, and one warning that names the folder."""

    def check(reason, folder=path):
        kernel = kernel_in(folder)
        assert kernel(21) == 42
        assert hits(kernel) == 0
        (line,) = warnings()
        assert str(folder) in line
        assert reason in line

    return check


def test_a_compiled_kernel_is_read_back(path, entry, warnings):
    kernel = kernel_in(path)
    assert (kernel(21), kernel(1.5)) == (42, 3.0)
    assert (hits(kernel), len(list(path.iterdir()))) == (1, 2)
    assert entry.name.startswith("double-")
    assert not warnings()


def test_another_processor_version_option_or_setting_has_another_entry(entry, monkeypatch):  # noqa: ARG001
    codegen = numba.core.registry.cpu_target.target_context.codegen()
    names = []

    def add(**options):
        names.append(KernelCache(double, options).name_of((numba.int64,), codegen))

    add()
    add(nogil=True)
    for module, name in ((numba, "__version__"), (config, "OPT"), (config, "BOUNDSCHECK")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 7)
            add()
    with monkeypatch.context() as patch:
        patch.setattr(type(codegen), "magic_tuple", lambda _: ("another processor",))
        add()
    with monkeypatch.context() as patch:
        patch.setattr(double, "__qualname__", "double_of_other_sources")
        add()
    assert len(set(names)) == len(names)


def test_types_of_one_name_are_told_apart(path):
    """Numba names the type of a named tuple by its class's name and fields' types: another order has the same name."""
    for fields, expected in (("a b", 1), ("b a", -1), ("a b", 1)):
        assert kernel_in(path, difference)(namedtuple("Pair", fields)(3, 2)) == expected


def cut(size):
    return lambda file: file.write_bytes(file.read_bytes()[:size])


def change(file, position, byte):
    content = bytearray(file.read_bytes())
    content[position] ^= byte
    file.write_bytes(content)


def in_its_place(make):
    def replace(file):
        file.unlink()
        make(file)

    return replace


DAMAGES = {
    "emptied": cut(0),
    "cut in the digest": cut(31),
    "cut after the digest": cut(32),
    "cut in the middle": cut(4000),
    "cut at the end": cut(-1),
    "the first byte": lambda file: change(file, 0, 1),
    "a byte of the pickle": lambda file: change(file, 40, 128),
    "a byte of the machine code": lambda file: change(file, 3000, 1),
    "the last byte": lambda file: change(file, -1, 64),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"."),
    "a folder": in_its_place(Path.mkdir),
}
if os.name != "nt":
    DAMAGES |= {
        "a pipe": in_its_place(os.mkfifo),
        "a link to itself": in_its_place(lambda file: file.symlink_to(file)),
        "a file that others can write": lambda file: file.chmod(0o666),
    }
    if os.geteuid():  # root reads everything
        DAMAGES["unreadable"] = lambda file: file.chmod(0)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_entry_is_not_loaded_but_replaced(entry, path, damage, assert_compiled_with_one_line, monkeypatch):
    damage(entry)
    with monkeypatch.context() as patch:
        patch.setattr(pickle, "loads", lambda _: pytest.fail("it was loaded"))
        assert_compiled_with_one_line(entry.name)
    assert entry.is_dir() or KernelFolder(path).read(entry.name)


def test_many_changes_of_a_byte_are_all_noticed(entry, path):
    whole, folder = entry.read_bytes(), KernelFolder(path)
    for position in range(0, len(whole), 23):
        change(entry, position, 1 << position % 8)
        with pytest.raises(ValueError, match="its SHA-256 is wrong"):
            folder.read(entry.name)
        entry.write_bytes(whole)
    assert folder.read(entry.name) == whole[32:]


def test_the_entry_of_another_type_is_refused(entry, path, assert_compiled_with_one_line):
    """As one that was renamed, or found through an index that two processes wrote at once."""
    kernel_in(path)(1.5)
    (other,) = set(path.iterdir()) - {entry}
    entry.write_bytes(other.read_bytes())
    other.unlink()
    assert_compiled_with_one_line("its SHA-256 is wrong")


def test_an_entry_that_cannot_be_loaded_is_compiled(entry, path, assert_compiled_with_one_line):
    """As one of a version of Numba under development, whose number has not changed."""
    KernelFolder(path).write(entry.name, pickle.dumps(((numba.int64,), ())))
    assert_compiled_with_one_line("missing")


@posix_only
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EMFILE])
def test_a_folder_without_room_or_leave_to_write_is_read(entry, path, number, monkeypatch, warnings):
    opened = os.open

    def open_for_reading(path, flags, *args, **options):
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", open_for_reading)
    kernel = kernel_in(path)
    assert [kernel(x) for x in (21, 1.5, 2j, 1.5)] == [42, 3.0, 4j, 3.0]
    assert hits(kernel) == 1
    (line,) = warnings()
    assert str(path) in line
    assert os.strerror(number) in line
    assert list(path.iterdir()) == [entry]


@posix_only
def test_a_full_disk_leaves_no_part_of_an_entry(path, assert_compiled_with_one_line):
    import resource

    path.mkdir(mode=0o700, parents=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        assert_compiled_with_one_line(os.strerror(errno.EFBIG))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(path.iterdir())


@posix_only
def test_a_folder_that_others_can_write_is_not_used(entry, path, assert_compiled_with_one_line):
    before = entry.read_bytes()
    path.chmod(0o770)
    assert_compiled_with_one_line("others can write to the folder")
    assert (list(path.iterdir()), entry.read_bytes()) == ([entry], before)


@posix_only
def test_a_folder_of_another_user_is_not_used(entry, path, monkeypatch, assert_compiled_with_one_line):
    status = os.stat

    def of_another(place, *args, **options):
        found = status(place, *args, **options)
        return os.stat_result((*found[:4], found.st_uid + 1, *found[5:])) if place == path else found

    monkeypatch.setattr(os, "stat", of_another)
    assert_compiled_with_one_line(f"the folder belongs to user {os.getuid() + 1}")
    assert list(path.iterdir()) == [entry]


def test_a_file_in_the_folder_s_place_is_no_failure(path, assert_compiled_with_one_line):
    path.parent.mkdir()
    path.touch()
    assert_compiled_with_one_line("File exists")


def test_a_path_below_the_working_folder_is_not_used(tmp_path, monkeypatch, assert_compiled_with_one_line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", ".")
    assert_compiled_with_one_line("must be an absolute path", default_path())
    assert not list(tmp_path.iterdir())


@posix_only
def test_the_folder_is_that_of_the_user(tmp_path, monkeypatch):
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "working folder"))
    own = tmp_path / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "xpnn" / "kernels"
    assert default_path() == own
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_path() == own
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_path() == Path("/caches/xpnn/kernels")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/kernels")
    assert default_path() == Path("/kernels/xpnn")


def test_without_a_home_there_is_no_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache, "default_path", no_home)
    assert not cache.kernel_folder.__wrapped__().is_usable


def test_entries_out_of_use_are_removed(entry, path, monkeypatch):
    monkeypatch.setattr(cache, "FOLDER_BYTES", 3 * 1000)
    entry.unlink()
    now = time.time()
    for name, days in (
        ("new.kernel", 0), ("used.kernel", 29), ("over.kernel", 29.5), ("old.kernel", 31),
        ("new.kernel.0.tmp", 0), ("killed.kernel.0.tmp", 1), ("another program's", 400),
    ):  # fmt: skip
        (path / name).write_bytes(b"." * 1000)
        os.utime(path / name, (now - days * 86400,) * 2)
    (path / "folder.kernel").mkdir()
    folder = KernelFolder(path)
    folder.write("written.kernel", b"." * 900)
    left = {each.name for each in path.iterdir()} - {"folder.kernel"}
    assert left == {"written.kernel", "new.kernel", "used.kernel", "new.kernel.0.tmp", "another program's"}


def test_reading_is_use(entry, path):
    old = time.time() - 20 * 86400
    os.utime(entry, (old, old))
    assert kernel_in(path)(21) == 42
    assert entry.stat().st_mtime > old + 86400


SAME_TIME = """
import sys
import test_cache
kernel = test_cache.kernel_in(test_cache.Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print([kernel(x) for x in eval(sys.argv[2])])
"""


def test_processes_that_compile_one_kernel_for_other_types_at_once(path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAME_TIME, str(path), values], cwd=Path(__file__).parent,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for values in ("(1, 1.5, 2j)", "(2j, True, 1)")
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in processes] == ["[2, 3.0, 4j]\n", "[4j, 2, 2]\n"]
    kernel = kernel_in(path)
    assert [kernel(x) for x in (1, 1.5, 2j, True)] == [2, 3.0, 4j, 2]
    assert (hits(kernel), len(list(path.iterdir()))) == (4, 4)
