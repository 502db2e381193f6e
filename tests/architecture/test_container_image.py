"""The image is built from what `Dockerfile` copies; `.dockerignore` must not withhold any of it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _copied() -> set[str]:
    """What the build copies from the checkout."""
    lines = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    return {source for line in lines for source in line.split()}


def _allowed() -> set[str]:
    """What `.dockerignore`, which begins with `*`, lets through."""
    first, *rest = (ROOT / ".dockerignore").read_text().split()
    assert first == "*"
    return {line.removeprefix("!") for line in rest if line.startswith("!")}


def test_everything_that_is_copied_is_in_the_build_context() -> None:
    assert _copied() == _allowed()
    assert {name for name in _copied() if not (ROOT / name).exists()} == set()


def test_every_package_is_copied() -> None:
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    packages = {pattern.removesuffix("*") for pattern in find["find"]["include"]}
    assert packages <= _copied()
