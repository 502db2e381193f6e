"""Compiled code is only in modules named `*_kernels`, so that commands without it start fast."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("promcompat", "native_api", "promql", "sql")
COMPILERS = {"numba", "llvmlite"}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_only_kernel_modules_import_a_compiler() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if COMPILERS & set(_imported(path))
    }
    assert importers
    assert {path for path in importers if not path.endswith("_kernels.py")} == set()


@pytest.mark.parametrize(
    "module",
    # The last one is what the parent of workers imports.
    ["promcompat.__main__", "promcompat.processes.migrate", "promcompat.processes.serving.serve"],
)
def test_commands_without_kernels_do_not_import_numba(module: str) -> None:
    code = f"import sys, {module}; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
