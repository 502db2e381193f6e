"""A change of a file is noticed, whatever does not change."""

import os
from pathlib import Path

import pytest

from promcompat.core.file_states import state_of, states_of


def write(path: Path, text: str, moment_ns: int) -> Path:
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(moment_ns, moment_ns))
    return path


def test_a_file_is_another_one_after_each_kind_of_change(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "one", 1)
    states = [state_of(path)]
    states.append(state_of(write(path, "two", 2)))
    states.append(state_of(write(path, "three", 2)))
    write(tmp_path / "b", "other", 2).replace(path)
    states.append(state_of(path))
    assert len(set(states)) == 4


def test_files_that_are_gone_have_no_state(tmp_path: Path) -> None:
    there, gone = write(tmp_path / "a", "one", 1), tmp_path / "b"
    assert states_of([str(gone), str(there)]) == ((str(there), state_of(there)),)
    with pytest.raises(FileNotFoundError):
        state_of(gone)
