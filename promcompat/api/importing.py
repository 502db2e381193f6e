"""What all import endpoints share: pieces of a body become columns, which are stored at once.

Bad lines and samples do not keep the others from being stored; they are counted, and the answer
names the first ones.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from promcompat.api.forms import parse_parameters
from promcompat.api.params import Form
from promcompat.core.errors import (
    BadDataError,
    OverloadedError,
    StaleKnowledgeError,
    WriteRejectedError,
)
from promcompat.core.model import METRIC_NAME
from promcompat.http.bodies import BODIES
from promcompat.http.context import SETTINGS, TELEMETRY, services_of
from promcompat.http.line_bodies import LinePiece, line_pieces
from promcompat.imports.columns import ColumnsBuilder, Faults, ImportedColumns

SAMPLES_HEADER: Final = "X-Promcompat-Samples-Stored"
"""Says how many samples of a request were stored."""
_ATTEMPTS: Final = 3
_PATIENCE_SECONDS: Final = 20.0
"""How long an import waits for room. Its first pieces are stored, so a refusal would be partial."""

ReadPiece = Callable[[LinePiece, ColumnsBuilder], None]


@dataclass(slots=True)
class Outcome:
    """What became of the samples of a request."""

    n_stored: int = 0
    n_skipped: int = 0
    faults: Faults = field(default_factory=Faults)

    def text(self) -> str:
        """What was not stored and why, for people; the first reasons, one a line."""
        head = (
            f"{self.faults.number} samples or lines were not stored, {self.n_stored} samples were:"
        )
        return "\n".join([head, *self.faults.reasons])

    def headers(self) -> dict[str, str]:
        """The header with the number of samples stored."""
        return {SAMPLES_HEADER: str(self.n_stored)}


def url_form(request: web.Request) -> Form:
    """The parameters of the URL alone: the body has the samples, whatever its type says."""
    _, _, query = request.raw_path.partition("?")
    pairs, fault = parse_parameters(query)
    if fault:
        raise BadDataError(fault)
    return Form(pairs)


def extra_labels_of(form: Form) -> dict[str, str]:
    """The labels of every `extra_label=name=value`. Raises BadDataError."""
    labels = {}
    for text in form.all("extra_label"):
        name, mark, value = text.partition("=")
        if not mark or not name or name == METRIC_NAME:
            raise BadDataError(f"expected extra_label=name=value, got {text!r}")
        labels[name] = value
    return labels


async def import_lines(
    request: web.Request,
    tenant: str,
    format_name: str,
    extra_labels: dict[str, str],
    read: ReadPiece,
    outcome: Outcome,
) -> None:
    """Store the samples of a body of lines, piece by piece, and add to the outcome.

    Raises the errors of `line_pieces` and of writing. What was stored until then stays stored.
    """

    def parse(piece: LinePiece) -> ImportedColumns:
        builder = ColumnsBuilder(extra_labels)
        read(piece, builder)
        return builder.finish()

    bodies = request.app[BODIES]
    async for piece in line_pieces(request, request.app[SETTINGS].write_max_decoded_bytes):
        columns = await bodies.work(len(piece.content), parse, piece)
        await store_columns(request, tenant, format_name, columns, outcome)


async def store_columns(
    request: web.Request,
    tenant: str,
    format_name: str,
    columns: ImportedColumns,
    outcome: Outcome,
) -> None:
    """Store the samples of a piece, and add to the outcome. Raises the errors of writing."""
    n_before, n_stored_before = outcome.faults.number, outcome.n_stored
    outcome.faults.add_many(columns.faults.number, columns.faults.reasons)
    outcome.n_skipped += columns.n_skipped
    try:
        await _store(request, tenant, columns, outcome)
    finally:
        metrics = request.app[TELEMETRY].imports
        metrics.stored.labels(format_name).inc(outcome.n_stored - n_stored_before)
        metrics.refused.labels(format_name).inc(outcome.faults.number - n_before)
        metrics.skipped.labels(format_name).inc(columns.n_skipped)


async def _store(
    request: web.Request, tenant: str, columns: ImportedColumns, outcome: Outcome
) -> None:
    """Write the batch; make it again when series that it knew were removed meanwhile."""
    metrics, attempts = services_of(request).metrics, _ATTEMPTS
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        batch, refused = await request.app[BODIES].work(
            16 * len(columns.series),
            columns.to_batch,
            metrics.known_series(tenant),
            metrics.label_limits,
        )
        n_rows = len(batch)
        try:
            if n_rows or batch.metadata:
                await metrics.write(tenant, batch)
        except StaleKnowledgeError:
            attempts -= 1
            if not attempts:
                raise
            continue
        except OverloadedError as exc:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(min(exc.retry_after_seconds, 1.0))
            continue
        except WriteRejectedError as exc:
            n_refused = len(exc.rows) + len(exc.refused)
            n_rows -= n_refused
            reasons = [*str(exc).split("\n"), *exc.refused.values()]
            outcome.faults.add_many(n_refused, dict.fromkeys(reasons))
        outcome.n_stored += n_rows
        outcome.faults.add_many(refused.number, refused.reasons)
        return
