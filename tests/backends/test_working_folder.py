"""Settings of packages in the working folder, which may be anybody's: never read."""

import os
import subprocess
import sys

import pytest
from xpnn.backends import why_unavailable
from xpnn.backends.working_folder import edited

NUMBA = """
from xpnn.backends import get_backend
get_backend("numba")
import numba
numba.njit(lambda x: x)(1)  # reads the configuration anew
print(numba.config.CACHE_DIR, int(numba.config.OPT), getattr(numba.config, "CACHE_LOCATOR_CLASSES", "") or None)
"""


def test_numba_does_not_read_its_file(tmp_path):
    pytest.importorskip("yaml")  # without which Numba reads no such file
    if why_unavailable("numba"):
        pytest.skip(why_unavailable("numba"))
    (tmp_path / ".numba_config.yaml").write_text("cache_dir: .\nopt: 0\ncache_locator_classes: evil.Locator\n")
    environment = os.environ | {"NUMBA_CACHE_DIR": "/mine"}
    command = [sys.executable, "-P", "-W", "error", "-c", NUMBA]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "/mine 3 None\n"), result.stderr


def test_only_the_first_import_of_that_module_is_edited(tmp_path, monkeypatch):
    for name in ("edited_module", "other_module"):
        (tmp_path / f"{name}.py").write_text("text = 'old'")
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    for _ in range(2):
        with edited("edited_module", "'old'", "'new'", file="settings"):
            import edited_module
            import other_module
        assert (edited_module.text, other_module.text) == ("new", "old")
        assert sys.meta_path == finders
        del sys.modules["edited_module"], sys.modules["other_module"]
    import edited_module

    with edited("edited_module", "'old'", "'new'", file="settings"):
        import edited_module
    assert edited_module.text == "old"
    del sys.modules["edited_module"]


def test_another_source_is_imported_unchanged_unless_it_would_read_the_file(tmp_path, monkeypatch):
    (tmp_path / "edited_module.py").write_text("text = 'unlike'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "settings"
    settings.touch()
    with (
        edited("edited_module", "'old'", "'new'", file="settings"),
        pytest.raises(ImportError, match="settings lies in the working folder, where this version of edited_module"),
    ):
        import edited_module
    settings.unlink()
    with edited("edited_module", "'old'", "'new'", file="settings"):
        import edited_module
    assert edited_module.text == "unlike"
    del sys.modules["edited_module"]
