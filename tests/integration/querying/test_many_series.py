"""Selectors of many series: what they cost is not taken out of the event loop at once."""

import threading

import pytest

from promcompat.core.model import IntArray, SeriesSelection
from sql.series import reader as series_reader
from tests.support.factories import make_batch, make_labels, make_matcher
from tests.support.storage.repositories import opened_storage

pytestmark = pytest.mark.integration

TENANT = "default"
N_SERIES = 600


async def test_regular_expressions_over_many_values_are_matched_in_a_thread(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    matching_ids_of = series_reader._matching_ids_of

    def watched(*arguments: object) -> IntArray:
        threads.append(threading.get_ident())
        return matching_ids_of(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(series_reader, "_matching_ids_of", watched)
    monkeypatch.setattr(series_reader, "_LABELS_AT_ONCE", 7)
    async with opened_storage(plain_database_url) as storage:
        written = {make_labels("up", n=f"{n:03}"): [(1000, 1.0)] for n in range(N_SERIES)}
        await storage.store.write_batch(TENANT, make_batch(written))
    # Another storage, which knows no labels yet.
    async with opened_storage(plain_database_url) as storage:
        for pattern, n_expected in ((".*[05]", N_SERIES // 5), ("(.*1){3}", 1), ("x.*y", 0)):
            matchers = make_matcher("__name__", "=", "up"), make_matcher("n", "=~", pattern)
            selection = SeriesSelection(matchers=matchers, start_ms=0, end_ms=2000)
            (block,) = await storage.store.select(TENANT, [selection])
            assert len(block.labels) == n_expected
            assert set(block.labels) <= set(written)
    assert len(threads) == 3
    assert threading.get_ident() not in threads
