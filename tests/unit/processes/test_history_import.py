"""`promcompat import`: its checkpoint, and how the size of windows follows what is in them."""

from argparse import Namespace
from pathlib import Path

import pytest

from promcompat.processes.command_line import build_parser
from promcompat.processes.history.importing import load_checkpoint, next_size
from promcompat.processes.history.sources import HistoryImportError, Tally


def options(*more: str) -> Namespace:
    given = ["import", "prometheus", "http://p:9090", "--start", "100", "--end", "200"]
    return build_parser().parse_args([*given, *more])


def test_a_saved_checkpoint_is_where_the_same_import_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    checkpoint = load_checkpoint(options(), file)
    assert (checkpoint.position_ms, checkpoint.end_ms) == (100_000, 200_000)
    checkpoint.position_ms, checkpoint.number, checkpoint.total = 150_000, 7, 1.5
    checkpoint.save(file)
    assert load_checkpoint(options(), file) == checkpoint
    assert load_checkpoint(options("--end", "300"), file).end_ms == 300_000
    assert load_checkpoint(options(), file).tally == Tally(7, 1.5)
    for other in (("--match", "up"), ("--start", "101")):
        with pytest.raises(HistoryImportError, match="is of another import"):
            load_checkpoint(options(*other), file)
    file.write_text("{")
    with pytest.raises(HistoryImportError, match="cannot be read"):
        load_checkpoint(options(), file)


def test_windows_grow_while_they_have_few_samples_and_shrink_with_many() -> None:
    assert next_size(1_000, 0) == 4_000
    assert next_size(1_000, 1_000_000) == 1_000
    assert next_size(1_000, 3_000_000) == 250
    assert next_size(1, 3_000_000) == 1
    assert next_size(7 * 86_400_000, 0) == 7 * 86_400_000


def test_sums_agree_but_for_their_last_digits() -> None:
    assert Tally(2, 0.1 + 0.2).agrees_with(Tally(2, 0.3))
    assert not Tally(2, 0.3).agrees_with(Tally(3, 0.3))
    assert not Tally(2, 0.3).agrees_with(Tally(2, 0.4))
