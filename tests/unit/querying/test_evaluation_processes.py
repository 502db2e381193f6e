"""Processes answer as this one does, can be stopped, and nobody depends on one that is gone."""

import asyncio
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from promcompat.alerting.rule_service import rule_faults
from promcompat.api.ast_json import expr_json
from promcompat.api.exemplar_handlers import _selectors
from promcompat.api.query_parsing import _rendered
from promcompat.composition.services import EVALUATION_MODULE
from promcompat.core.errors import ExecutionError, QueryCanceledError, QueryTimeoutError
from promcompat.core.model import EvalRange, Labels, PartialLabelSets, SampleBlock
from promcompat.querying.processes.label_lists import (
    AnswerLabels,
    PackedLabels,
    ReceivedLists,
    SentLists,
)
from promcompat.querying.processes.messages import receive, send
from promcompat.querying.processes.pool import NICENESS, EvaluationProcesses, process_command
from promql.ast import Expr
from promql.budget import LimitExceededError, MemoryTakenError, QueryBudget, QueryMemory, TimeLimit
from promql.engine import Engine, EngineOptions
from promql.evaluation.evaluator import EvaluationOptions
from promql.evaluation.stages import (
    Evaluated,
    NoProcessError,
    QueryText,
    evaluate_query,
    final_value,
    parse_query,
    plan_query,
)
from promql.features import ALL_FEATURES
from promql.parsing.parse_errors import ParseError
from promql.parsing.parser import parse_expr
from promql.parsing.printer import prettify
from promql.query import Query
from promql.values.matrix import Matrix, StringValue
from tests.support.factories import STALE_NAN, make_block, make_labels
from tests.support.services.alerting import make_rule
from tests.support.waiting import until
from tests.unit.promql.queries import SeriesReader, steps

MINUTE = 60_000
SERIES = {
    make_labels("m", i=str(i)): steps([float(i * n) if n % 7 else None for n in range(31)])
    for i in range(3)
} | {make_labels("gone", i="\N{GREEK SMALL LETTER MU}"): steps([1.0, STALE_NAN, 3.0])}
SLOW = " + ".join(["max_over_time(vector(1)[10m:1s])"] * 5_000)


@pytest.fixture(scope="module")
def processes() -> Iterator[EvaluationProcesses]:
    pool = EvaluationProcesses(1, process_command(EVALUATION_MODULE))
    assert not pool.are_ready()
    until_ready(pool, lambda: pool.selections(text_of("m"), new_budget()))
    assert pool.are_ready()
    try:
        yield pool
    finally:
        pool.close()


def until_ready(pool: EvaluationProcesses, ask: Callable[[], object]) -> object:
    """Ask again while a process starts, which takes as long as the machine is busy."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return ask()
        except NoProcessError:
            assert time.monotonic() < deadline


def text_of(text: str, n_steps: int = 11, *, is_range: bool = True) -> QueryText:
    end_ms = 10 * MINUTE + (n_steps - 1) * MINUTE
    grid = EvalRange(10 * MINUTE, end_ms, MINUTE) if is_range else EvalRange.instant(10 * MINUTE)
    return QueryText(
        text=text,
        eval_range=grid,
        is_range=is_range,
        options=EvaluationOptions(lookback_ms=5 * MINUTE),
        features=ALL_FEATURES,
        default_subquery_step_ms=MINUTE,
        trusts_reset_hints=False,
    )


def new_budget(seconds: float = 60, n_bytes: int = 1 << 30) -> QueryBudget:
    return QueryBudget(time.monotonic() + seconds, 1_000_000_000, n_bytes)


def here(query: QueryText, blocks: list[SampleBlock]) -> Evaluated:
    budget = new_budget()
    plan = plan_query(query, parse_query(query, budget))
    evaluation = evaluate_query(query, plan, blocks, budget)
    value = final_value(query, evaluation.value, budget)
    return Evaluated(value, evaluation.annotations, evaluation.samples_per_step)


async def blocks_of(query: QueryText) -> list[SampleBlock]:
    plan = plan_query(query, parse_query(query, new_budget()))
    return await SeriesReader(SERIES).select("t", plan.selections)


@pytest.mark.parametrize("is_range", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "m",
        "rate(m[5m])",
        "sum by (i) (rate(m[5m])) + on (i) m",
        'count_values("v", m)',
        'label_replace(m, "a", "\N{GREEK SMALL LETTER MU}$1", "i", "(.*)")',
        "histogram_quantile(0.9, m)",
        "max_over_time(m[5m:1m])",
        "gone",
        "1 + 2",
        "nothing",
    ],
)
async def test_the_answer_is_the_same(
    processes: EvaluationProcesses, text: str, is_range: bool
) -> None:
    query = text_of(text, is_range=is_range)
    blocks = await blocks_of(query)
    budget = new_budget()
    expected, found = here(query, blocks), processes.evaluate(query, blocks, budget)
    assert type(found.value) is type(expected.value)
    if isinstance(expected.value, Matrix) and isinstance(found.value, Matrix):
        assert list(found.value.labels) == list(expected.value.labels)
        assert np.array_equal(found.value.present, expected.value.present)
        assert found.value.values.tobytes() == expected.value.values.tobytes()
    assert found.annotations.infos == expected.annotations.infos
    assert found.samples_per_step.tolist() == expected.samples_per_step.tolist()
    assert processes.selections(query, budget) == tuple(
        plan_query(query, parse_query(query, budget)).selections
    )


async def test_series_whose_partial_label_sets_are_equal_stay_apart(
    processes: EvaluationProcesses,
) -> None:
    query = text_of("sum by (g) (rate(m[5m]))")
    (block,) = await blocks_of(query)
    partial_sets = PartialLabelSets([labels.only({"__name__"}) for labels in block.labels])
    blocks = [replace(block, labels=partial_sets)]
    expected = here(query, [block]).value
    for found in (
        here(query, blocks).value,
        *(processes.evaluate(query, blocks, new_budget()).value for _ in range(2)),
    ):
        assert isinstance(found, Matrix)
        assert isinstance(expected, Matrix)
        assert list(found.labels) == list(expected.labels) == [Labels()]
        assert found.values.tobytes() == expected.values.tobytes()


async def test_range_vectors_and_strings_are_answered(processes: EvaluationProcesses) -> None:
    query = text_of("gone[30m]", is_range=False)
    found = processes.evaluate(query, await blocks_of(query), new_budget()).value
    assert isinstance(found, SampleBlock)
    assert found.labels == (make_labels("gone", i="\N{GREEK SMALL LETTER MU}"),)
    assert found.values.tolist() == [1.0, 3.0]
    text = processes.evaluate(text_of('"a"', is_range=False), [], new_budget()).value
    assert text == StringValue("a")


async def test_errors_are_those_of_the_language(processes: EvaluationProcesses) -> None:
    with pytest.raises(ParseError, match="parse error"):
        processes.selections(text_of("m{"), new_budget())
    many = text_of("m == m", n_steps=2)
    blocks = [*await blocks_of(text_of("m"))] * 2
    with pytest.raises(ExecutionError, match="many-to-many"):
        processes.evaluate(text_of("m * on () m"), blocks[:1], new_budget())
    with pytest.raises(LimitExceededError, match="1000 bytes") as caught:
        processes.evaluate(many, blocks[:1], new_budget(n_bytes=1_000))
    assert caught.value.limit == "max_estimated_memory_consumption_per_query"


def test_shared_memory_is_asked_for(processes: EvaluationProcesses) -> None:
    query = text_of("max_over_time(vector(1)[1d:1s])", n_steps=100)
    memory = QueryMemory(1 << 30)
    budget = QueryBudget(time.monotonic() + 60, 1 << 40, 1 << 30, shared=memory)
    processes.evaluate(query, [], budget)
    assert budget.peak_bytes == memory.held_bytes > 1 << 20
    budget.close()
    assert memory.held_bytes == 0
    full = QueryBudget(time.monotonic() + 60, 1 << 40, 1 << 30, shared=QueryMemory(1 << 20))
    with pytest.raises(MemoryTakenError):
        processes.evaluate(query, [], full)


async def test_a_query_ends_when_it_is_cancelled_or_late(processes: EvaluationProcesses) -> None:
    budget = new_budget()
    asked = asyncio.to_thread(processes.evaluate, text_of(SLOW, n_steps=300), [], budget)
    running = asyncio.create_task(asked)
    await asyncio.sleep(0.3)
    budget.cancel()
    with pytest.raises(QueryCanceledError):
        await running
    with pytest.raises(QueryTimeoutError):
        processes.evaluate(text_of(SLOW, n_steps=300), [], new_budget(0.2))
    # The same process goes on.
    assert processes.evaluate(text_of("1"), [], new_budget()).samples_per_step.sum() == 0


async def test_a_killed_process_costs_its_query_and_another_comes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMCOMPAT_DATABASE_URL", "postgresql://a:secret@b/c")
    pool = EvaluationProcesses(1, process_command(EVALUATION_MODULE))
    try:
        until_ready(pool, lambda: pool.selections(text_of("m"), new_budget()))
        (child,) = pool._idle
        running = begin_long_work(pool, tmp_path / "begun")
        await until((tmp_path / "begun").exists)
        process_id = child.process.pid
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, process_id) == min(19, own + NICENESS)
        assert "PROMCOMPAT_DATABASE_URL" not in environment_of(process_id)
        os.kill(process_id, signal.SIGKILL)
        with pytest.raises(ExecutionError, match="SIGKILL"):
            await running
        assert until_ready(pool, lambda: pool.selections(text_of("m"), new_budget()))
    finally:
        pool.close()
    assert not pool._idle


def test_without_a_process_that_starts_there_is_none() -> None:
    for command in (("/nonexistent",), ("/bin/false",)):
        pool = EvaluationProcesses(1, command)
        with pytest.raises(NoProcessError):
            pool.selections(text_of("m"), new_budget())
        pool.close()


async def test_long_queries_go_to_processes_while_others_query(
    processes: EvaluationProcesses,
) -> None:
    asked: list[str] = []

    class Watched(EvaluationProcesses):
        def evaluate(self, query: QueryText, *rest: object) -> Evaluated:
            asked.append(query.text)
            return processes.evaluate(query, *rest)  # type: ignore[arg-type]

    pool = Watched(0, ())
    engine = Engine(SeriesReader(SERIES), EngineOptions(), processes=pool)
    long = "max_over_time(m[5m:1m])"
    await engine.run(Query("a", long, EvalRange.instant(10 * MINUTE)))
    assert asked == []
    await engine.run(Query("b", "m", EvalRange.instant(10 * MINUTE)))
    result = await engine.run(Query("a", long, EvalRange.instant(10 * MINUTE)))
    assert asked == [long]
    assert isinstance(result.value, Matrix)
    assert len(result.value.labels) == 3


async def test_many_long_queries_go_to_processes_while_samples_are_written(
    processes: EvaluationProcesses,
) -> None:
    asked: list[str] = []

    class Watched(EvaluationProcesses):
        def are_ready(self) -> bool:
            return True

        def evaluate(self, query: QueryText, *rest: object) -> Evaluated:
            asked.append(query.text)
            return processes.evaluate(query, *rest)  # type: ignore[arg-type]

    engine = Engine(
        SeriesReader(SERIES), EngineOptions(), processes=Watched(0, ()), is_writing=lambda: True
    )
    text = " + ".join(["max_over_time(vector(1)[1h:1s])"] * 100)
    query = Query("a", text, EvalRange.instant(10 * MINUTE))
    await engine.run(query)
    assert asked == []
    async with asyncio.timeout(60):
        while not asked:
            await engine.run(query)


async def test_rules_are_parsed_in_processes_while_others_query(
    processes: EvaluationProcesses,
) -> None:
    engine = Engine(SeriesReader(SERIES), EngineOptions(), processes=processes)
    long, here = 1_000_000, os.getpid()
    assert await engine.work("a", long, os.getpid) == here
    await engine.run(Query("b", "m", EvalRange.instant(10 * MINUTE)))
    assert await engine.work("a", long, os.getpid) != here
    assert await engine.work("a", 10, os.getpid) == here
    wrong = make_rule("r", "sum(", labels={"a": "{{"}, annotations={"b": "{{ $x }}"})
    found = await engine.work("a", long, partial(rule_faults, wrong))
    assert found == rule_faults(wrong)
    assert len(found) == 3
    with pytest.raises(ParseError):
        await engine.work("a", long, partial(parse_expr, "sum("))


@pytest.mark.parametrize("render", [prettify, expr_json, _selectors])
def test_parsed_queries_are_rendered_in_processes(
    processes: EvaluationProcesses, render: Callable[[Expr], object]
) -> None:
    # Texts that were parsed before are remembered.
    text, other = (f'rate(m{{a="{render.__name__} {n}"}}[5m])' for n in range(2))
    work = partial(_rendered, text, ALL_FEATURES, TimeLimit.after(60), render)
    late = partial(_rendered, other, ALL_FEATURES, TimeLimit.after(0), render)
    assert processes.call(work, new_budget()) == work()
    with pytest.raises(QueryTimeoutError):
        processes.call(late, new_budget())


def test_lists_are_sent_once_and_forgotten_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promcompat.querying.processes.label_lists._MAX_KNOWN", 3)
    sent, received = SentLists(), ReceivedLists()
    lists = [tuple(make_labels("m", i=f"{n} {i}") for i in range(n)) for n in (0, 1, 2, 2)]
    for labels in (*lists, *reversed(lists), *lists):
        entry = sent.of(labels)
        assert received.of(entry) == labels
        received.forget(sent.take_forgotten())
    assert sent.of(lists[-1]).packed is None
    assert len(received._known) <= 3


def test_labels_of_an_answer_refer_to_those_of_the_samples() -> None:
    given = make_block({make_labels("m", i=str(i)): [(0, 1.0)] for i in range(3)}).labels
    new = Labels.of({"made": "here"})
    shown = [given[2], given[0].without_metadata(), new, given[1]]
    answer = AnswerLabels.of(shown, [given[:1], given[1:]])
    assert answer.numbers.tolist() == [4, 1, -1, 2]
    assert answer.others.unpacked() == (new,)
    assert answer.resolved([given[:1], given[1:]]) == tuple(shown)
    assert PackedLabels.of(given).unpacked() == given


def environment_of(process_id: int) -> str:
    return Path(f"/proc/{process_id}/environ").read_text()


async def test_who_waits_for_a_process_that_another_got_waits_no_longer(
    patient: None, tmp_path: Path
) -> None:
    """No process starts any more: the service does the work itself."""
    may_start = tmp_path / "may start"
    pool = EvaluationProcesses(1, waiting_command(may_start))
    try:
        asked = [begin_long_work(pool, tmp_path / "begun") for _ in range(2)]
        await until(lambda: n_waiting(pool) == 2)
        may_start.touch()
        async with asyncio.timeout(120):
            (first,), (other,) = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert isinstance(first.exception(), NoProcessError)
        await until((tmp_path / "begun").exists)
    finally:
        pool.close()
    with pytest.raises(ExecutionError, match="SIGKILL"):
        await other


async def test_a_process_that_ends_because_it_was_idle_costs_no_query() -> None:
    """It closes its socket first, and takes a moment to end."""
    pool = EvaluationProcesses(1, (sys.executable, "-c", _SOON_IDLE))
    try:
        until_ready(pool, lambda: pool.are_ready() or _no_process())
        (child,) = pool._idle
        hung_up = select.poll()
        hung_up.register(child.channel, select.POLLHUP)
        await until(lambda: hung_up.poll(0))
        assert child.is_alive
        with pytest.raises(NoProcessError):
            pool.selections(text_of("m"), new_budget())
        assert child not in pool._idle
    finally:
        pool.close()


def test_a_process_that_ends_before_it_reads_a_query_does_not_cost_it() -> None:
    pool = EvaluationProcesses(1, (sys.executable, "-c", _UNREAD))
    try:
        until_ready(pool, lambda: pool.are_ready() or _no_process())
        with pytest.raises(NoProcessError):
            pool.selections(text_of("m"), new_budget())
    finally:
        pool.close()


def test_a_message_whose_file_finds_no_place_is_an_error_of_the_system() -> None:
    """The thread that starts a process would end by any other, and nobody would start one again."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ours, theirs:
        for _ in range(2):
            send(theirs, "ready").close()
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                receive(ours)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert receive(ours).content == "ready"


def _no_process() -> None:
    time.sleep(0.01)
    raise NoProcessError


_SOON_IDLE = """
import sys, time
from promcompat.querying.processes import child
child._IDLE_SECONDS, child._IDLE_TIMES = 0.01, 1
child.run(int(sys.argv[1]), lambda: None)
time.sleep(3600)
"""
_UNREAD = """
import select, socket, sys, time
from promcompat.querying.processes.messages import send
channel = socket.socket(fileno=int(sys.argv[1]))
send(channel, "ready").close()
select.select([channel], [], [])
channel.close()
time.sleep(3600)
"""


async def test_nobody_waits_for_a_process_that_starts_once_they_are_closed(
    patient: None, tmp_path: Path
) -> None:
    pool = EvaluationProcesses(1, waiting_command(tmp_path / "never"))
    asked = begin_long_work(pool, tmp_path / "begun")
    await until(lambda: n_waiting(pool) == 1 and pool._working)
    (child,) = pool._working
    pool.close()
    with pytest.raises(NoProcessError):
        await asked
    await until(lambda: child.process.returncode is not None)
    assert child.process.returncode == -signal.SIGKILL


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promcompat.querying.processes.pool._MUCH_PATIENCE_SECONDS", 600.0)


def begin_long_work(pool: EvaluationProcesses, begun: Path) -> "asyncio.Task[object]":
    """Work that makes a file when a process begins it, and does not end."""
    text = f"(open({str(begun)!r}, 'w').close(), __import__('time').sleep(3600))"
    return asyncio.create_task(asyncio.to_thread(pool.call, partial(eval, text), new_budget(600)))


def n_waiting(pool: EvaluationProcesses) -> int:
    return len(pool._changed._waiters)  # type: ignore[attr-defined]


def waiting_command(file: Path) -> Sequence[str]:
    """A process that is ready once there is a file."""
    wait = f"import os, time\nwhile not os.path.exists({str(file)!r}): time.sleep(0.01)\n"
    run = f"import runpy, sys\nrunpy.run_module({EVALUATION_MODULE!r}, run_name='__main__')\n"
    return sys.executable, "-c", wait + run
