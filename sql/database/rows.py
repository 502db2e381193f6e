"""Rows of the database as values."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg
import orjson
from pydantic import TypeAdapter

from promcompat.core.model import METRIC_NAME, Labels
from sql.database.connection_pool import Connection

ValueT = TypeVar("ValueT")
RowT = TypeVar("RowT")
LabelPair: TypeAlias = tuple[str, str]
_ROWS_AT_ONCE: Final = 50
"""An alert takes 50 µs."""
_ROWS_OF_PORTION: Final = 1_000
"""asyncpg takes 4 µs for each; the first few hundred cost one round trip more than all at once."""
_PAGE_BYTES: Final = 16 << 20
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def row_reader(
    cls: type[ValueT], json: Collection[str] = ()
) -> Callable[[Mapping[str, Any]], ValueT]:
    """A function from a row to the dataclass whose fields have the names of its columns.

    `json` names the columns with JSON. A timestamptz column `x` is the field `x_ms`, in Unix ms and
    0 for NULL. Columns without a field are ignored.
    """
    adapter = TypeAdapter(cls)
    names = inspect.signature(cls).parameters

    def read(row: Mapping[str, Any]) -> ValueT:
        fields: dict[str, Any] = {}
        for name, value in row.items():
            if name in json:
                fields[name] = None if value is None else orjson.loads(value)
            elif f"{name}_ms" in names:
                fields[f"{name}_ms"] = unix_ms(value)
            else:
                fields[name] = value
        return adapter.validate_python(fields)

    return read


async def fetch_many(
    connection: Connection, statement: str, *values: object
) -> list[asyncpg.Record]:
    """The rows of a statement, some at a time; others have their turn in between.

    The event loop takes a second for 200,000 rows that come together. The connection is in a
    transaction.
    """
    cursor = await connection.cursor(statement, *values)
    limit_seconds: float = connection.limit_seconds
    rows: list[asyncpg.Record] = []
    while portion := await cursor.fetch(_ROWS_OF_PORTION, timeout=limit_seconds):
        rows += portion
    return rows


async def fetch_page(
    ask: Callable[[int, int], Awaitable[Sequence[asyncpg.Record]]],
    before_id: int,
    limit: int,
    n_at_once: int = 10,
) -> tuple[Sequence[asyncpg.Record], bool]:
    """Up to `limit` rows by descending id, and whether there are more; fewer if they are large.

    `ask` takes an id and a number, and gives at most that many rows with smaller ids. A row may
    have a megabyte, so only `n_at_once` are read at once. A cursor would need a named prepared
    statement, which fails where several connections share a session.
    """
    rows: list[asyncpg.Record] = []
    n_bytes, has_more = 0, True
    while has_more:
        # The last one only tells that there are more.
        n_asked = min(n_at_once, limit + 1 - len(rows))
        portion = await ask(rows[-1]["id"] if rows else before_id, n_asked)
        for row in portion:
            if len(rows) == limit or n_bytes >= _PAGE_BYTES:
                return rows, True
            rows.append(row)
            n_bytes += sum(map(_n_characters, row.values()))
        has_more = len(portion) == n_asked
    return rows, False


def _n_characters(value: object) -> int:
    if isinstance(value, list):
        return sum(map(_n_characters, value))
    return len(value) if isinstance(value, str) else 0


async def read_rows(rows: Sequence[RowT], read: Callable[[RowT], ValueT]) -> list[ValueT]:
    """What a function makes of each of any number of rows; others have their turn in between."""
    values: list[ValueT] = []
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        values += map(read, rows[first : first + _ROWS_AT_ONCE])
        await asyncio.sleep(0)
    return values


def n_text_bytes(values: Collection[object]) -> int:
    """How many bytes the texts among the parameters of a row have."""
    return sum(len(value.encode()) for value in values if isinstance(value, str))


def unix_ms(moment: datetime | None) -> int:
    """Unix milliseconds of a timestamptz column; 0 for NULL."""
    return 0 if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)


def labels_of_series(
    metric_name: str, labels: str, shared: dict[LabelPair, LabelPair] | None = None
) -> Labels:
    """The label set of a row of table `series`, whose labels are a JSON object.

    It uses the pairs of `shared` that are equal to its own, and adds its other ones: label sets of
    series with eight labels in common take 0.4 of the memory.
    """
    pairs = list(orjson.loads(labels).items())
    if metric_name:
        pairs.append((METRIC_NAME, metric_name))
    pairs.sort()
    # `map` runs in C.
    return Labels.of_sorted(
        tuple(map(shared.setdefault, pairs, pairs) if shared is not None else pairs)
    )
