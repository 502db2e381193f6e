"""Where long work of queries runs: in threads of this process, or in processes of low priority.

Threads share the interpreter with the event loop. Processes do not, but samples have to be sent
there and answers back, and what is evaluated there waits behind the long queries of others.
"""

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from promcompat.core.model import SampleBlock
from promql.allowance import Allowance
from promql.ast import AggregateExpr, Call, Expr, SubqueryExpr, walk
from promql.evaluation.stages import QueryProcesses
from promql.functions.registry import FUNCTIONS
from promql.planning.plan import Plan
from promql.query_slots import QuerySlots

_SAMPLES_LIKE_A_CELL: Final = 4
"""So many samples take as long as one cell, which is the value of one series at one step."""
_CELLS_LIKE_A_LABEL: Final = 100
"""`count_values` makes a label set of each distinct value, which takes 13 µs in the interpreter. In
most queries values repeat."""
_LONG_CELLS: Final = 1_000_000
"""Evaluating so many takes 25 to 60 ms, and sending them to a process 15 to 30."""
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
        self, processes: QueryProcesses | None, slots: QuerySlots, is_writing: Callable[[], bool]
    ) -> None:
        """`is_writing` tells whether samples are being stored at this moment.

        Without `processes`, everything runs in threads.
        """
        self._processes = processes
        self._slots = slots
        self._is_writing = is_writing
        self._written_at = -inf
        self.cells = Allowance(_CELLS_A_SECOND, _CELLS_AT_ONCE)
        """Cells that may be evaluated in threads while others query."""
        self.seconds = Allowance(_SHARE_OF_A_CORE, _SHARE_OF_A_CORE)
        """Seconds that evaluations took, here or in processes."""

    def prepare(self, tenant: str) -> None:
        """Have a process made if a query of the tenant may need one; the query begins."""
        if self._processes and self._slots.has_others(tenant):
            self._processes.prepare()

    def processes_for(self, tenant: str, n_cells: float = inf) -> QueryProcesses | None:
        """Where work runs that takes as long as so many cells; None: in a thread here.

        While other tenants have queries, a tenant has a limited number of cells for threads, and
        these are taken from what is left. While samples are written, long work of a tenant whose
        queries take much time goes to processes.
        """
        if self._processes is None:
            return None
        if self._slots.has_others(tenant):
            return None if self.cells.take(tenant, n_cells) else self._processes
        is_long = n_cells > _LONG_CELLS and self.seconds.left(tenant) < 0 and self._is_written()
        return self._processes if is_long and self._processes.are_ready() else None

    def _is_written(self) -> bool:
        """Whether samples are stored, or were a moment ago."""
        now = time.monotonic()
        if self._is_writing():
            self._written_at = now
        return now - self._written_at < _WRITTEN_SECONDS


def cells_of(plan: Plan, blocks: Sequence[SampleBlock]) -> float:
    """How long evaluating a plan takes, as a number of cells of 20 to 50 ns.

    Infinite if a plan may take longer than its cells tell.
    """
    if any(map(_may_take_long, walk(plan.expr))):
        return inf
    n_steps = plan.eval_range.n_steps
    n_cells = n_steps + sum(
        len(block.timestamps) // _SAMPLES_LIKE_A_CELL + len(block.labels) * n_steps
        for block in blocks
    )
    return n_cells * _CELLS_LIKE_A_LABEL if any(map(_makes_labels, walk(plan.expr))) else n_cells


def _may_take_long(node: Expr) -> bool:
    """Whether a node may take long even with few samples: many steps, or regular expressions."""
    match node:
        case SubqueryExpr():
            return True
        case Call():
            return FUNCTIONS[node.func].matches_patterns
        case _:
            return False


def _makes_labels(node: Expr) -> bool:
    """Whether a node makes labels of values."""
    return isinstance(node, AggregateExpr) and node.op == "count_values"
