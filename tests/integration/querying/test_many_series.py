"""Selectors of many series: what they cost is not taken out of the event loop at once."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from promcompat.core.errors import ExecutionError
from promcompat.core.model import EvalRange, IntArray, SelectHints, SeriesSelection
from promql.engine import Engine, EngineOptions
from promql.features import DEFAULT_FEATURES, Feature, Features
from promql.query import Query
from promql.values.matrix import Matrix
from sql.samples.reading import selections
from sql.series import reader as series_reader
from tests.support.factories import make_batch, make_labels, make_matcher
from tests.support.histograms import histogram
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


SERIES = {
    make_labels(
        name, a=("", "1", "2")[number % 3], b=f"{number:03}", **({"ü": "x"} if number % 2 else {})
    ): [(1000, float(number)), (1500, float(2 * number)), (2500, float(number))]
    for name in ("x", "y")
    for number in range(20)
}
TYPED = {
    make_labels("typed", b=f"{number}", __type__=kind): [(1000, float(number)), (1500, 5.0)]
    for number in range(3)
    for kind in ("counter", "gauge")
}
ALL = make_matcher("__name__", "=~", "x|y")


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """From two series on, only the labels that a query reads are read, of seven at a time."""
    monkeypatch.setattr(selections, "_MANY_SERIES", 2)
    monkeypatch.setattr(series_reader, "_CHOSEN_AT_ONCE", 7)


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize(
    "names",
    [
        (),
        ("a",),
        ("__name__",),
        ("__name__", "a", "missing", "ü"),
        ("b",),
        ("\0",),
        tuple(f"{number:02}" for number in range(50)),
    ],
)
async def test_of_many_series_only_the_labels_that_are_read_are_there(
    plain_database_url: str, names: tuple[str, ...]
) -> None:
    async with opened_storage(plain_database_url) as storage:
        await storage.store.write_batch(TENANT, make_batch(SERIES))
        chosen = SeriesSelection(
            matchers=(ALL,), start_ms=0, end_ms=2000, hints=SelectHints(labels=names)
        )
        found = [(await storage.store.select(TENANT, [chosen]))[0].labels for _ in range(2)]
        (block,) = await storage.store.select(TENANT, [replace(chosen, hints=SelectHints())])
        assert set(block.labels) == set(SERIES)
        expected = block.labels
        if len(names) < 50:
            expected = [labels.only(names) for labels in block.labels]
            assert len(set(map(id, found[0]))) == len(set(expected))
        assert [list(one) for one in found] == [list(expected)] * 2
        # Whoever has all labels has those.
        (again,) = await storage.store.select(TENANT, [chosen])
        assert again.labels == block.labels


@pytest.mark.usefixtures("few_are_many")
async def test_series_with_native_histograms_have_all_labels(plain_database_url: str) -> None:
    async with opened_storage(plain_database_url) as storage:
        labels = [make_labels("x", b=str(number)) for number in range(3)]
        series = {one: [(1000, histogram())] for one in labels}
        await storage.store.write_batch(TENANT, make_batch(series))
        selection = SeriesSelection(
            matchers=(ALL,), start_ms=0, end_ms=2000, hints=SelectHints(labels=())
        )
        (block,) = await storage.store.select(TENANT, [selection])
        assert set(block.labels) == set(labels)


@pytest.mark.parametrize(
    "text",
    [
        "sum(x)",
        "count by (a) ({b=~'.+'})",
        "count by (__name__) ({b=~'.+'})",
        "max by (a, missing) ((x))",
        "quantile by (__name__, 'ü') (0.5, {b=~'.+'})",
        "sum by (a) (x) / count by ('ü') (x)",
        "sum by (a) (x) + on (a) group_right () x",
        "sum by (a) (-{b=~'.+'})",
        "sum by (a) (rate(x[5m]))",
        "sum(increase(x[1s])) / count(resets((x[1s])))",
        "avg by (a, b) (max_over_time(x[1s]))",
        "sum by (__name__) (rate(x[5m]))",
        "sum by (__name__, a) (last_over_time({b=~'.+'}[1s]))",
        "sum by (a) (rate({b=~'.+'}[5m]))",
        "sum by (a) (rate({b=~'.+', __name__!='y'}[5m]))",
        "sum by (a) (max_over_time({__name__=~'x', b=~'0.*'}[1s]))",
        "max by (a) (quantile_over_time(scalar(y{b='001'}), x[5m]))",
        "sum by (a) (rate(x[5m:500ms]))",
        "sum by (a) (rate(x[5m]) * 2)",
        "sum by (a) (-(2 * x + scalar(y{b='001'})))",
        "count by (a) (x > 10)",
        "sum by (a, __name__) (x > bool 10)",
        "sum by (a) (-typed)",
        "sum by (__type__) (typed > 1)",
        "sum by (a) (last_over_time({b=~'.+'}[1s]) * 1)",
        "sum by (a) (x * on (b) x)",
        "sum by (a) (ceil(rate(x[5m])))",
        "sum(label_replace(rate(x[5m]), 'a', '$1', 'b', '(.*)'))",
        "sum by (a) (rate(x[5m])) and on (a) max by (a) (rate(x[5m]))",
        "sum without (b) (rate(x[5m]))",
        "sum by (a) (rate(typed[5m]))",
        "sum by (__type__) (rate(typed{__type__='counter'}[5m]))",
        "sum by (__type__) (last_over_time(typed[5m]))",
        "topk by (a) (2, x)",
        "count_values by (a) ('v', x)",
        "count_values by (a) ('a', rate(x[5m]))",
        "sum without (b) (x)",
        "stddev by (b) (x offset 500ms)",
    ],
)
@pytest.mark.parametrize(
    "features",
    [
        DEFAULT_FEATURES,
        DEFAULT_FEATURES | {Feature.DELAYED_NAME_REMOVAL},
        DEFAULT_FEATURES | {Feature.USE_START_TIMESTAMPS},
    ],
    ids=["default", "delayed", "starts"],
)
async def test_answers_are_those_with_all_labels(
    plain_database_url: str, text: str, features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    async with opened_storage(plain_database_url) as storage:
        await storage.store.write_batch(TENANT, make_batch(SERIES | TYPED))
        engine = Engine(storage.store, EngineOptions(features=features))
        for n_many in (2, 10_000):
            monkeypatch.setattr(selections, "_MANY_SERIES", n_many)
            try:
                result = await engine.run(Query(TENANT, text, EvalRange(1000, 3000, 500)))
            except ExecutionError as exc:
                answers.append(str(exc))
                continue
            value = result.value
            assert isinstance(value, Matrix)
            assert len(value.labels) > 0
            shown = (list(value.labels), value.values, value.present, result.warnings, result.infos)
            answers.append(repr(shown))
    assert answers[0] == answers[1]


async def test_queries_that_begin_together_read_the_labels_of_many_series_once(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_read = 0
    labels_of_rows = series_reader.SeriesReader._labels_of_rows

    def counted(reader: Any, rows: Sequence[Any]) -> Any:
        nonlocal n_read
        n_read += len(rows)
        return labels_of_rows(reader, rows)

    monkeypatch.setattr(series_reader.SeriesReader, "_labels_of_rows", counted)
    monkeypatch.setattr(series_reader, "_PARSED_AT_ONCE", 10)
    async with opened_storage(plain_database_url) as storage:
        await storage.store.write_batch(TENANT, make_batch(SERIES))
        selection = SeriesSelection(matchers=(ALL,), start_ms=0, end_ms=2000)
        answers = await asyncio.gather(
            *(storage.store.select(TENANT, [selection]) for _ in range(5))
        )
    assert [set(block.labels) for (block,) in answers] == [set(SERIES)] * 5
    assert n_read == len(SERIES)
