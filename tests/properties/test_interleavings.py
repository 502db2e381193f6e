"""Whatever several processes do to one database, answers are those of a model in memory.

The steps of one moment are carried out at the same time by different processes. Their writes go to
different series, so that the order among them does not matter; an answer of that moment must have
everything that was there before it, and nothing but what is there after it. The answer after the
moment is compared to the bit.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promcompat.core.model import STALE_NAN_BITS
from sql.migrate import migrate
from sql.samples.storage_options import StoreKind
from tests.support.long_form import examples
from tests.support.programs.community import running_community
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import discard
from tests.support.storage.storage_processes import Row, Rows, StorageProcess, storage_processes

pytestmark = pytest.mark.integration

N_PROCESSES: Final = 3
N_SERIES: Final = 6
N_EXAMPLES: Final = examples(20)
_DAY_MS: Final = 86_400_000
_TODAY_MS: Final = time.time_ns() // 1_000_000 // _DAY_MS * _DAY_MS
_STARTS: Final = (
    _TODAY_MS - 5_000,  # Across midnight.
    _TODAY_MS - 2 * _DAY_MS,
    _TODAY_MS - 400 * _DAY_MS,
    0,
)
_ALL: Final = (-(1 << 62), 1 << 62)
_BITS: Final = (0, 1 << 63, 0x3FF8000000000000, 0x3FF8000000000001, STALE_NAN_BITS, 0x7FF0 << 48)


@dataclass(frozen=True, slots=True)
class Write:
    """Rows of series that only one process of the moment writes."""

    rows: tuple[tuple[int, int, int], ...]
    """Of each row: which of the process' own series, Unix ms, bits."""


@dataclass(frozen=True, slots=True)
class Delete:
    """The process' own series lose the samples in `(start_ms, end_ms]`."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Every series in `(start_ms, end_ms]`."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Tidy:
    """What a loop of the service does meanwhile: `drain` or `compact`."""

    command: str


Step = Write | Delete | Ask | Tidy

times = st.builds(
    lambda start, offset: start + offset * 1_000, st.sampled_from(_STARTS), st.integers(0, 9)
)
rows = st.tuples(st.integers(0, N_SERIES // N_PROCESSES - 1), times, st.sampled_from(_BITS))
writes = st.builds(Write, st.lists(rows, min_size=1, max_size=8).map(tuple))
spans = st.tuples(times, times).map(sorted)
deletes = spans.map(lambda span: Delete(span[0] - 1, span[1]))
questions = st.one_of(spans.map(lambda span: Ask(*span)), st.just(Ask(*_ALL)))


def moments(
    tidying: Sequence[str], n_processes: int = N_PROCESSES
) -> st.SearchStrategy[list[tuple[Step, ...]]]:
    """What the processes do, moment by moment."""
    steps: st.SearchStrategy[Step] = st.one_of(writes, writes, questions, deletes)
    if tidying:
        steps = st.one_of(steps, st.sampled_from([Tidy(command) for command in tidying]))
    moment = st.lists(steps, min_size=1, max_size=n_processes).map(tuple)
    return st.lists(moment, min_size=1, max_size=12)


@dataclass(slots=True)
class Model:
    """The samples by series and time: the first of a time counts."""

    samples: dict[tuple[int, int], int] = field(default_factory=dict)

    def apply(self, process: int, step: Step) -> None:
        """Do what a process did."""
        match step:
            case Write(rows):
                for number, time_ms, bits in own_rows(process, rows):
                    self.samples.setdefault((number, time_ms), bits)
            case Delete(start_ms, end_ms):
                for number, time_ms in list(self.samples):
                    if number in own_series(process) and start_ms < time_ms <= end_ms:
                        del self.samples[number, time_ms]

    def answer(self, start_ms: int, end_ms: int) -> Rows:
        """What a question is answered when nothing else happens."""
        found: Rows = {}
        for (number, time_ms), bits in sorted(self.samples.items()):
            if start_ms < time_ms <= end_ms:
                found.setdefault(number, []).append((time_ms, bits))
        return found


def own_series(process: int) -> list[int]:
    """The series that a process writes."""
    return list(range(process, N_SERIES, N_PROCESSES))


def own_rows(process: int, rows: Sequence[Row]) -> list[Row]:
    """Rows of a process with the numbers of its own series."""
    return [(own_series(process)[which], time_ms, bits) for which, time_ms, bits in rows]


def begin(process: StorageProcess, number: int, tenant: str, step: Step) -> None:
    """Let a process begin a step."""
    match step:
        case Write(rows):
            process.begin("write", tenant, own_rows(number, rows))
        case Delete(start_ms, end_ms):
            process.begin("delete", tenant, own_series(number), start_ms, end_ms)
        case Ask(start_ms, end_ms):
            process.begin("ask", tenant, range(N_SERIES), start_ms, end_ms)
        case Tidy(command):
            process.begin(command)


def check_between(answer: Rows, before: Rows, after: Rows, step: Ask) -> None:
    """An answer of a moment has what stays, and nothing that is neither before nor after."""
    for number in range(N_SERIES):
        found = set(answer.get(number, []))
        there, then = set(before.get(number, [])), set(after.get(number, []))
        assert there & then <= found <= there | then, (step, number)
        assert len(found) == len(answer.get(number, [])), (step, number)


def run(
    processes: Sequence[StorageProcess],
    tenant: str,
    story: list[tuple[Step, ...]],
    *,
    at_once: bool = True,
) -> None:
    """Carry out a story, and compare after each moment.

    Without `at_once` the processes carry out the steps of a moment one after the other.
    """
    model = Model()
    for number, moment in enumerate(story):
        # Each process gets another kind of step from moment to moment.
        order = [(number + place) % len(processes) for place in range(len(moment))]
        before = Model(dict(model.samples))
        answers = []
        for process, step in zip(order, moment, strict=True):
            begin(processes[process], process, tenant, step)
            if not at_once:
                answers.append(processes[process].finish())
        if at_once:
            answers = [processes[process].finish() for process in order]
        for process, step in zip(order, moment, strict=True):
            model.apply(process, step)
        for step, answer in zip(moment, answers, strict=True):
            if isinstance(step, Ask):
                span = step.start_ms, step.end_ms
                check_between(answer, before.answer(*span), model.answer(*span), step)
        asked = processes[number % len(processes)]
        asked.begin("ask", tenant, range(N_SERIES), *_ALL)
        assert asked.finish() == model.answer(*_ALL), moment


# -- on each edition --------------------------------------------------------------------------

_TENANTS = itertools.count()


@pytest.fixture(scope="module", params=["timescaledb_server", "plain_postgres_server"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def rows_processes(server: DatabaseServer) -> Iterator[list[StorageProcess]]:
    with storage_processes(server.create_database(), StoreKind.ROWS, N_PROCESSES) as processes:
        yield processes


@pytest.fixture(scope="module")
def block_processes(server: DatabaseServer) -> Iterator[list[StorageProcess]]:
    with storage_processes(server.create_database(), StoreKind.BLOCKS, N_PROCESSES) as processes:
        yield processes


@settings(max_examples=N_EXAMPLES)
@given(moments(["drain", "compact"]))
def test_blocks_answer_as_the_model(
    block_processes: list[StorageProcess], story: list[tuple[Step, ...]]
) -> None:
    run(block_processes, f"tenant-{next(_TENANTS)}", story)


@settings(max_examples=N_EXAMPLES // 2)
@given(moments(["drain"]))
def test_rows_answer_as_the_model(
    rows_processes: list[StorageProcess], story: list[tuple[Step, ...]]
) -> None:
    run(rows_processes, f"tenant-{next(_TENANTS)}", story)


# -- on the Community edition, whose connections share one session -----------------------------


@pytest.fixture(scope="module")
def community_processes() -> Iterator[list[StorageProcess]]:
    require_component("TimescaleDB Community")
    with running_community() as url:
        asyncio.run(migrate(url, discard))
        shared = f"{url}&search_path=promcompat,public"
        with storage_processes(shared, StoreKind.BLOCKS, 2, shares_session=True) as processes:
            yield processes


@settings(max_examples=N_EXAMPLES // 4)
@given(moments(["drain", "compact"], 2))
def test_blocks_answer_as_the_model_on_the_community_edition(
    community_processes: list[StorageProcess], story: list[tuple[Step, ...]]
) -> None:
    run(community_processes, f"tenant-{next(_TENANTS)}", story, at_once=False)
