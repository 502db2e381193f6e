"""No kernel reads or writes outside its arrays, whatever it is given.

Compiled as usual, a kernel does not check indexes. These properties run in another process, in
which numba compiles the checks in: an index out of bounds is an IndexError there.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "module",
    [
        "tests/properties/test_decoder.py",
        "tests/unit/core/test_series_table.py",
        "tests/unit/sql/test_codec.py",
    ],
)
def test_properties_hold_with_bounds_checks(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", module],
        cwd=ROOT,
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
