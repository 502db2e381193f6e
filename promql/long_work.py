"""Where long work of queries runs: in threads of this process, or in processes of low priority.

Threads share the interpreter with the event loop. Processes do not, but samples have to be sent
there and answers back, and what is evaluated there waits behind the long queries of others.
"""

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from promcompat.core.limits.token_buckets import TokenBuckets
from promcompat.core.model import SampleBlock
from promql.ast import AggregateExpr, Call, Expr, SubqueryExpr, walk
from promql.evaluation.stages import QueryProcesses
from promql.functions.registry import FUNCTIONS
from promql.planning.plan import Plan

_SAMPLES_LIKE_A_CELL: Final = 4
"""This many samples take as long as one cell, which is the value of one series at one step."""
_CELLS_LIKE_A_LABEL: Final = 100
"""`count_values` makes a label set of each distinct value, which takes 13 µs in the interpreter. In
most queries values repeat."""
_LONG_CELLS: Final = 1_000_000
"""Evaluating this many takes 25 to 60 ms, and sending them to a process 15 to 30."""
_CELLS_A_SECOND: Final = 4_000_000
"""What a tenant may evaluate in threads while others query: a tenth of a core. Sending samples to a
process and the answer back takes 0.3 to 0.8 of the time of evaluating them."""
_CELLS_AT_ONCE: Final = 5 * _CELLS_A_SECOND
_SHARE_OF_A_CORE: Final = 0.2
"""Seconds that the queries of a tenant may take in a second before the long ones among them go to
processes while samples are written."""
_WRITTEN_SECONDS: Final = 1.0
"""How long after a sample was stored samples count as being written."""


class LongWork:
    """Decides where each query runs."""

    def __init__(
        self,
        processes: QueryProcesses | None,
        has_others: Callable[[str], bool],
        is_writing: Callable[[], bool],
        now_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`has_others` tells whether other tenants have queries than the one it is given.

        `is_writing` tells whether samples are being stored at this moment. Without `processes`,
        everything runs in threads.
        """
        self._processes = processes
        self._has_others = has_others
        self._is_writing = is_writing
        self._now_seconds = now_seconds
        self._written_at = -inf
        self._cells = TokenBuckets(lambda _: (_CELLS_A_SECOND, _CELLS_AT_ONCE), now_seconds)
        """Cells that may be evaluated in threads while others query."""
        self._seconds = TokenBuckets(lambda _: (_SHARE_OF_A_CORE, _SHARE_OF_A_CORE), now_seconds)
        """Seconds that evaluations took, here or in processes."""

    def prepare(self, tenant: str) -> None:
        """Have a process made if a query of the tenant may need one; the query begins."""
        if self._processes and self._has_others(tenant):
            self._processes.prepare()

    def processes_for(self, tenant: str, n_cells: float = inf) -> QueryProcesses | None:
        """Where work runs that takes as long as so many cells; None: in a thread here.

        While other tenants have queries, a tenant has a limited number of cells for threads, and
        these are taken from what is left. While samples are written, long work of a tenant whose
        queries take much time goes to processes.
        """
        if self._processes is None:
            return None
        if self._has_others(tenant):
            cells = self._cells.of(tenant)
            if n_cells > cells.tokens:
                return self._processes
            cells.tokens -= n_cells
            return None
        is_long = n_cells > _LONG_CELLS and self._seconds.of(tenant).tokens < 0
        is_long = is_long and self._is_written() and self._processes.are_ready()
        return self._processes if is_long else None

    def add_seconds(self, tenant: str, seconds: float) -> None:
        """Count the time that evaluating a query took. A tenant owes no more than a second has."""
        bucket = self._seconds.of(tenant)
        bucket.tokens = max(bucket.tokens - seconds, -_SHARE_OF_A_CORE)

    def _is_written(self) -> bool:
        """Whether samples are stored, or were a moment ago."""
        now = self._now_seconds()
        if self._is_writing():
            self._written_at = now
        return now - self._written_at < _WRITTEN_SECONDS


def cells_of(plan: Plan, blocks: Sequence[SampleBlock]) -> float:
    """How long evaluating a plan takes, as a number of cells of 20 to 50 ns.

    Infinite if a plan may take longer than its cells tell.
    """
    n_steps = plan.eval_range.n_steps
    n_cells = n_steps + sum(
        len(block.timestamps) // _SAMPLES_LIKE_A_CELL + len(block.labels) * n_steps
        for block in blocks
    )
    return n_cells * max(map(_cells_like_one, walk(plan.expr)))


def _cells_like_one(node: Expr) -> float:
    """How many cells take as long as one of a plan with this node.

    Infinitely many if even few samples may take long: many steps, or regular expressions.
    """
    match node:
        case SubqueryExpr():
            return inf
        case Call():
            return inf if FUNCTIONS[node.func].matches_patterns else 1
        case AggregateExpr(op="count_values"):
            return _CELLS_LIKE_A_LABEL
        case _:
            return 1
