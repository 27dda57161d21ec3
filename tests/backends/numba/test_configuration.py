"""Numba's configuration file in the working folder, which may be anybody's: never read."""

import os
import subprocess
import sys

import pytest

IMPORT = """
from xpnn.backends import get_backend
get_backend("numba")
import numba
numba.njit(lambda x: x)(1)  # reads the configuration anew
print(numba.config.CACHE_DIR, int(numba.config.OPT), numba.config.CACHE_LOCATOR_CLASSES or None)
"""


def test_the_file_in_the_working_folder_is_not_read(tmp_path):
    pytest.importorskip("yaml")  # without which Numba reads no such file
    (tmp_path / ".numba_config.yaml").write_text("cache_dir: .\nopt: 0\ncache_locator_classes: evil.Locator\n")
    environment = os.environ | {"NUMBA_CACHE_DIR": "/mine"}
    command = [sys.executable, "-P", "-W", "error", "-c", IMPORT]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "/mine 3 None\n"), result.stderr
