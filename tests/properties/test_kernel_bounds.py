"""No kernel reads or writes outside its arrays, whatever it is given.

Compiled as usual, a kernel does not check indexes. These properties run in another process, in
which numba compiles the checks in: an index out of bounds is an IndexError there. Compiling takes
most of the time, so here are the kernels that read what senders send and stored pages; `make fuzz`
begins with the properties of all kernels.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_properties_hold_with_bounds_checks() -> None:
    modules = [
        "tests/properties/test_decoder.py",
        "tests/unit/core/test_series_table.py",
        "tests/unit/sql/test_codec.py",
        "tests/unit/sql/test_label_counts.py",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *modules],
        cwd=ROOT,
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_requests_are_read_within_bounds() -> None:
    """As Python, whose arrays check every index; compiling these kernels again takes longer."""
    # Hashes overflow, of which numpy warns when it is not compiled.
    options = ["-W", "ignore:overflow:RuntimeWarning", "-p", "no:cacheprovider"]
    modules = ["tests/properties/test_symbols.py", "tests/properties/test_otlp_points.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", *options, *modules],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
