"""Where the machine code of kernels is kept, and when it is compiled."""

import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promcompat.core import compiled_kernels
from promcompat.core.compiled_kernels import (
    choose_folder,
    kernel,
    kernel_modules,
    note_all_kernels,
)
from promcompat.processes.kernel_compilation import compile_kernels

VARIABLE = "_PROMCOMPAT_KERNELS"


@pytest.fixture(autouse=True)
def _no_inherited_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")


def test_nobody_else_can_write_to_the_folder(tmp_path: Path) -> None:
    folder = choose_folder([tmp_path / "cache"], "key")
    assert folder == tmp_path / "cache" / "kernels" / "key"
    for part in (folder, folder.parent, tmp_path / "cache"):
        assert part.stat().st_mode & 0o777 == 0o755
    assert choose_folder([tmp_path / "cache"], "key") == folder


def test_kernels_are_kept_in_a_private_folder_when_the_cache_cannot_be_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    folder = choose_folder([tmp_path / "file" / "cache"], "key")
    assert folder.stat().st_mode & 0o077 == 0
    assert not folder.is_relative_to(tmp_path / "file")
    assert [record.__dict__["reason"] for record in caplog.records] == ["Not a directory"]
    assert Path(os.environ[VARIABLE]) == folder.parent
    # A process that this one starts uses the same folder.
    assert choose_folder([tmp_path / "file" / "cache"], "key") == folder


def test_what_others_can_write_is_not_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = choose_folder([tmp_path], "key")
    (shared / "kernel").touch()
    shared.chmod(0o777)
    folder = choose_folder([tmp_path], "key")
    assert [*folder.iterdir()] == []
    assert [record.__dict__["reason"] for record in caplog.records] == [
        "other users can write to it"
    ]


def test_what_is_complete_is_used_wherever_it_is(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    compiled = choose_folder([shared], "key")
    assert choose_folder([own, shared], "key") == own / "kernels" / "key", "nothing is compiled yet"
    note_all_kernels(compiled)
    assert choose_folder([own, shared], "key") == compiled
    assert choose_folder([own, shared], "another key") == own / "kernels" / "another key"
    compiled.chmod(0o777)
    assert choose_folder([own, shared], "key") == own / "kernels" / "key"


def test_the_key_changes_with_the_text_of_any_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel is compiled with those that it calls, also from another file."""
    sources = [tmp_path / name for name in ("first_kernels.py", "second_kernels.py")]
    for source in sources:
        source.write_text("before")
    monkeypatch.setattr(compiled_kernels, "_kernel_sources", lambda: sources)
    keys = {compiled_kernels._cache_key()}
    for source in sources:
        source.write_text("after")
        keys.add(compiled_kernels._cache_key())
    assert len(keys) == 3


@pytest.mark.parametrize(
    "change",
    [
        ("numba.__version__", "0"),
        ("llvmlite.__version__", "0"),
        ("np.__version__", "0"),
        ("sys.version", "0"),
        ("platform.machine", lambda: "another machine"),
        ("llvmlite.binding.get_host_cpu_name", lambda: "another processor"),
        ("numba.config.BOUNDSCHECK", "changed"),
    ],
    ids=lambda change: change[0],
)
def test_the_key_changes_with_what_compiles(
    change: tuple[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = compiled_kernels._cache_key()
    owner, _, name = change[0].rpartition(".")
    target = attrgetter(owner)(compiled_kernels)
    monkeypatch.setattr(target, name, change[1])
    assert compiled_kernels._cache_key() != before


@pytest.fixture
def modules_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes these modules, by name and source, the only ones with kernels."""

    def make(**sources: str) -> Path:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.setattr(compiled_kernels, "KERNEL_FOLDER", choose_folder([tmp_path], "key"))
        monkeypatch.setattr(compiled_kernels, "kernel_modules", lambda: sorted(sources))
        return tmp_path

    return make


def test_kernels_are_compiled_once_and_after_those_they_call(
    modules_in: Callable[..., Path],
) -> None:
    write_name = "open(__file__ + '.log', 'a').write('imported ')\n"
    folder = modules_in(
        a_caller="from c_called import name\n" + write_name,
        b_other=write_name,
        c_called="name = 1\n" + write_name,
    )
    lines: list[str] = []
    assert compile_kernels(lines.append)
    assert [line.rpartition(":")[0] for line in lines] == [
        f"compiling kernels {number}/3" for number in (1, 2, 3)
    ]
    started = [line.rpartition(" ")[2] for line in lines]
    assert started.index("c_called") < started.index("a_caller")
    assert not compile_kernels(lines.append)
    assert len(lines) == 3
    assert (folder / "b_other.py.log").read_text() == "imported "


def test_a_module_that_cannot_be_compiled_is_named(modules_in: Callable[..., Path]) -> None:
    modules_in(good="", bad="raise ValueError('no kernel')\n")
    for _ in range(2):  # It is tried again: nothing says that all are compiled.
        with pytest.raises(RuntimeError, match="the kernels of bad cannot be compiled"):
            compile_kernels(lambda _: None)


def test_kernels_of_old_versions_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age in range(30):
        folder = choose_folder([tmp_path], f"old-{age:02}")
        os.utime(folder, (1e9 - age, 1e9 - age))
    current = choose_folder([tmp_path], "current")
    os.utime(current, (0, 0))
    monkeypatch.setattr(compiled_kernels, "KERNEL_FOLDER", current)
    monkeypatch.setattr(compiled_kernels, "kernel_modules", list)
    assert compile_kernels(lambda _: None)
    kept = sorted(path.name for path in (tmp_path / "kernels").iterdir())
    assert kept == ["current", *(f"old-{age:02}" for age in range(24))]


def test_every_kernel_module_can_be_named() -> None:
    assert "promcompat.core.compiled_kernels" not in kernel_modules()
    assert all(name.endswith("_kernels") for name in kernel_modules())


def test_kernels_are_loaded_from_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "kept_kernels.py").write_text(
        "from promcompat.core.compiled_kernels import kernel\n"
        "@kernel('i8(i8)')\ndef increment(number): return number + 1\n"
    )
    assert importlib.import_module("kept_kernels").increment(1) == 2
    monkeypatch.delitem(sys.modules, "kept_kernels")
    # As root can write everywhere: what asks whether a folder can be written gets this answer.
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    increment = importlib.import_module("kept_kernels").increment
    assert increment.stats.cache_hits
    assert increment(1) == 2


def test_a_kernel_from_the_cache_is_read_for_llvm_only_to_compile_another_one_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    head = "from promcompat.core.compiled_kernels import kernel\n"
    inner = head + "@kernel('i8(i8)')\ndef increment(number): return number + 1\n"
    outer = head + (
        "from inner_kernels import increment\n"
        "@kernel('i8(i8)')\ndef increment_twice(number): return increment(increment(number))\n"
    )
    for name, source in (("inner_kernels", inner), ("outer_kernels", outer)):
        (tmp_path / f"{name}.py").write_text(source)

    def is_read(overload: Any) -> bool:
        return overload.library._shared_module is not None

    def imported(name: str) -> Any:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    assert imported("inner_kernels").increment(1) == 2
    cached = imported("inner_kernels").increment
    [overload] = cached.overloads.values()
    assert cached.stats.cache_hits
    assert not is_read(overload)
    assert cached(1) == 2
    assert imported("outer_kernels").increment_twice(1) == 3
    assert is_read(overload)
    assert imported("outer_kernels").increment_twice(1) == 3


def test_a_kernel_takes_only_the_types_it_declares() -> None:
    @kernel("f8(f8[::1])")
    def total(values: np.ndarray) -> float:  # type: ignore[type-arg]
        result = 0.0
        for value in values:
            result += value
        return result

    assert total(np.array([1.0, 2.5])) == 3.5
    with pytest.raises(TypeError, match="No matching definition"):
        total(np.array([1, 2]))
