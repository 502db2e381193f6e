"""What a process that evaluates queries does: it answers requests until its socket is closed."""

import socket
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from promcompat.core.errors import PromcompatError, without_frames
from promcompat.core.model import SampleBlock, SeriesSelection
from promcompat.querying.processes.label_lists import AnswerLabels, LabelList, ReceivedLists
from promcompat.querying.processes.messages import Message, receive, send
from promql.ast import Expr
from promql.budget import MemoryTakenError, QueryBudget, QueryMemory
from promql.evaluation.stages import (
    Evaluated,
    QueryText,
    evaluate_query,
    final_value,
    parse_query,
    plan_query,
)
from promql.values.matrix import Matrix

_MAX_KNOWN_CHARACTERS: Final = 1 << 20
_IDLE_SECONDS: Final = 10.0
_IDLE_TIMES: Final = 30


@dataclass(frozen=True, slots=True)
class Request:
    """A query; without `blocks`, only its selections are asked for.

    The limits are those of the query's budget; `kept_bytes` are what it holds already. `labels` are
    those of the blocks, which have none themselves, and `forgotten` are not needed after this.
    """

    query: QueryText
    deadline: float
    max_samples: int
    max_bytes: int
    kept_bytes: int
    blocks: list[SampleBlock] | None = None
    labels: tuple[LabelList, ...] = ()
    forgotten: tuple[int, ...] = ()

    def samples(self, lists: ReceivedLists) -> list[SampleBlock]:
        """The blocks with their labels."""
        blocks = zip(self.blocks or (), self.labels, strict=True)
        return [replace(block, labels=lists.of(labels)) for block, labels in blocks]


@dataclass(frozen=True, slots=True)
class Work:
    """Something else to compute: `function()`, which nobody can stop."""

    function: Callable[[], object]


Result = tuple[SeriesSelection, ...] | Evaluated


@dataclass(frozen=True, slots=True)
class Answer:
    """The result, or the error; `peak_samples` and `peak_bytes` are those of the budget.

    `labels` are those of a value that has some, but none itself.
    """

    result: object
    error: Exception | None = None
    labels: AnswerLabels | None = None
    peak_samples: int = 0
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class WantsMemory:
    """A request for shared memory, so many bytes in all; the answer says whether they are free."""

    n_bytes: int


class BrokenEvaluationError(Exception):
    """Something that no query should cause; the message is the traceback."""


class _AskedMemory(QueryMemory):
    """The memory of all queries, which the other process counts."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Callable[[int], bool]) -> None:
        super().__init__(0)
        self._ask = ask

    def take(self, n_bytes: int, held_already: int) -> None:
        """See QueryMemory."""
        if not self._ask(held_already + n_bytes):
            raise MemoryTakenError(held_already + n_bytes)

    def give_back(self, n_bytes: int) -> None:
        """The other process does that when it has the answer."""


class _Budget(QueryBudget):
    """A budget that the sender of the request can cancel."""

    __slots__ = ("_message",)

    def __init__(self, message: Message, request: Request, memory: QueryMemory) -> None:
        super().__init__(request.deadline, request.max_samples, request.max_bytes, memory)
        self._message = message
        self.keep(request.kept_bytes)

    def check_time(self) -> None:
        """See TimeLimit."""
        # A late query is told to stop, too.
        if self._message.is_cancelled and self.remaining_seconds:
            self.cancel()
        super().check_time()


class _Parsed:
    """Trees of texts, the latest ones: rules have the same text at each evaluation."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, frozenset[str]], Expr] = OrderedDict()
        self._n_characters = 0

    def of(self, query: QueryText, budget: QueryBudget) -> Expr:
        """The tree of a text. Raises as `parse_query`."""
        key = query.text, frozenset(query.features)
        expr = self._known.get(key)
        if expr is None:
            expr = self._known[key] = parse_query(query, budget)
            self._n_characters += len(query.text)
        self._known.move_to_end(key)
        while self._n_characters > _MAX_KNOWN_CHARACTERS:
            (text, _), _ = self._known.popitem(last=False)
            self._n_characters -= len(text)
        return expr


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """Answers requests; remembers texts and label sets between them."""

    channel: socket.socket
    parsed: _Parsed = field(default_factory=_Parsed)
    lists: ReceivedLists = field(default_factory=ReceivedLists)

    def answer(self, message: Message) -> Answer:
        """The answer to a request. Raises EOFError and OSError when nobody waits for it."""
        content: Request | Work = message.content
        try:
            if isinstance(content, Work):
                return Answer(content.function())
            return self._answer_query(message, content)
        except (PromcompatError, MemoryTakenError) as exc:
            return Answer(None, without_frames(exc))
        except (EOFError, OSError):
            raise
        except Exception:  # The other process reports it as its own.
            return Answer(None, BrokenEvaluationError(traceback.format_exc()))

    def _answer_query(self, message: Message, request: Request) -> Answer:
        try:
            # Whatever becomes of the query, the lists count as received.
            blocks = request.samples(self.lists)
            budget = _Budget(message, request, _AskedMemory(self._ask))
            result, labels = budget.run(lambda: self._work(request, blocks, budget))
            return Answer(result, None, labels, budget.peak_samples, budget.peak_bytes)
        finally:
            self.lists.forget(request.forgotten)

    def _ask(self, n_bytes: int) -> bool:
        send(self.channel, WantsMemory(n_bytes)).close()
        return bool(receive(self.channel).content)

    def _work(
        self, request: Request, blocks: Sequence[SampleBlock], budget: QueryBudget
    ) -> tuple[Result, AnswerLabels | None]:
        query = request.query
        plan = plan_query(query, self.parsed.of(query, budget))
        if request.blocks is None:
            return plan.selections, None
        evaluation = evaluate_query(query, plan, blocks, budget)
        value = final_value(query, evaluation.value, budget)
        labels = None
        if isinstance(value, Matrix | SampleBlock):
            labels = AnswerLabels.of(value.labels, [block.labels for block in blocks])
            value = replace(value, labels=())
        return Evaluated(value, evaluation.annotations, evaluation.samples_per_step), labels


def serve(channel: socket.socket, give_back_memory: Callable[[], None]) -> None:
    """Answer requests; returns when the other process has gone, or nothing came for long."""
    evaluator, n_idle = _Evaluator(channel), 0
    while n_idle < _IDLE_TIMES:
        channel.settimeout(_IDLE_SECONDS)
        try:
            message = receive(channel)
        except TimeoutError:
            if not n_idle:
                give_back_memory()
            n_idle += 1
            continue
        except (EOFError, OSError):
            return
        channel.settimeout(None)
        n_idle = 0
        try:
            send(channel, evaluator.answer(message)).close()
        except (EOFError, OSError):
            return
        # Nothing of it stays while this process waits.
        del message


def run(descriptor: int, give_back_memory: Callable[[], None]) -> None:
    """The whole life of the process, which was given one end of a socket."""
    # The service may have ended meanwhile.
    with socket.socket(fileno=descriptor) as channel, suppress(OSError):
        send(channel, "ready").close()
        serve(channel, give_back_memory)
