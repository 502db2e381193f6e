"""What head and drains have in common with every way of storing samples for good."""

from collections.abc import Sequence
from typing import Protocol

from promcompat.core.explanations import ExplanationDepth, SelectionExplanation
from promcompat.core.model import IntArray, SeriesSelection
from promcompat.core.value_classes import value_class
from sql.database.connection_pool import Connection
from sql.samples.arrivals.arrival_log import DrainState
from sql.samples.columns.fold import Deletion, Piece
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples
from sql.samples.reading.allowance import SampleAllowance
from sql.times import MIN_TIMESTAMP_MS


@value_class(frozen=True, slots=True)
class StoredSamples:
    """Pieces in arrival order, and the deletions to fold them with, in theirs.

    `settled` are samples before the times of all pieces, which need no fold.
    `state` is that of the statement that read them; None if its transaction read the state.
    """

    pieces: Sequence[Piece]
    deletions: Sequence[Deletion]
    settled: SeriesSamples = NO_SAMPLES
    state: DrainState | None = None


@value_class(frozen=True, slots=True)
class DrainedQuestion:
    """Which drained samples are asked for: those of series (ascending ids) in `(start_ms, end_ms]`.

    `drained_through` is the last arrival that had been drained in the snapshot. Up to
    `settled_until_ms` nothing undrained is to be folded with the answer: of a `selection` of a
    query, some samples may stand for the others there, as far as its use allows it.
    """

    tenant_id: int
    wanted: IntArray
    start_ms: int
    end_ms: int
    drained_through: int
    settled_until_ms: int = MIN_TIMESTAMP_MS - 1
    selection: SeriesSelection | None = None


class DrainedReader(Protocol):
    """Reads what is stored for good, in the caller's snapshot.

    `name` is the store, `contents` what it consists of, for people. `has_rollups`: rollups of what
    it reads are computed. `reads_at_once`: how many large selections of a query are read at a time,
    each on a connection of its own. `tells_state`: a read is one statement, which also reads the
    state that its samples belong to, so it needs no transaction.
    """

    name: str
    contents: str
    has_rollups: bool
    reads_at_once: int
    tells_state: bool

    async def read(
        self, connection: Connection, question: DrainedQuestion, allowance: SampleAllowance
    ) -> StoredSamples:
        """The samples. Raises what the allowance raises, as soon as too much has arrived."""
        ...

    async def read_few(
        self, connection: Connection, question: DrainedQuestion, allowance: SampleAllowance
    ) -> StoredSamples | None:
        """The same with a plan that is kept; None where there is too much for that, or may be.

        `connection` is of the `question_pool`.
        """
        ...

    async def stored_series(
        self, connection: Connection, tenant_id: int, series_ids: IntArray
    ) -> IntArray:
        """Those of some series (ascending ids of the tenant) that have drained samples.

        Samples of deletions that were not worked off yet count as samples.
        """
        ...

    async def bounds(self, connection: Connection, tenant_id: int) -> tuple[int, int] | None:
        """The first and last time of what is drained of a tenant; deletions do not shrink them."""
        ...

    async def explain(
        self,
        connection: Connection | None,
        selection: SeriesSelection,
        question: DrainedQuestion,
        depth: ExplanationDepth,
    ) -> SelectionExplanation:
        """How a selection is read, without measurements.

        `connection` is None when nothing drained is read of it.
        """
        ...
