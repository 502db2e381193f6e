"""What all import endpoints share: pieces of a body become columns, which are stored at once.

Bad lines and samples do not keep the others from being stored; they are counted, and the answer
names the first ones.
"""

from collections.abc import Callable

from aiohttp import web

from promcompat.api.forms import Form, parse_parameters
from promcompat.core.errors import BadDataError
from promcompat.core.model import METRIC_NAME
from promcompat.http.bodies import BODIES
from promcompat.http.context import SETTINGS, TELEMETRY, services_of
from promcompat.http.line_bodies import LinePiece, line_pieces
from promcompat.imports.columns import ColumnsBuilder, ImportedColumns
from promcompat.imports.storing import ImportStore, Outcome

ReadPiece = Callable[[LinePiece, ColumnsBuilder], None]


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

    bodies = request.app[BODIES].of(tenant)
    async for piece in line_pieces(request, request.app[SETTINGS].write_max_decoded_bytes):
        # Every line may get all of the labels.
        n_bytes = len(piece.content) * (1 + len(extra_labels))
        columns = await bodies.parse(n_bytes, parse, piece)
        await store_columns(request, tenant, format_name, columns, outcome)


async def store_columns(
    request: web.Request,
    tenant: str,
    format_name: str,
    columns: ImportedColumns,
    outcome: Outcome,
) -> None:
    """Store the samples of a piece, and add to the outcome. Raises the errors of writing."""
    app = request.app
    services = services_of(request)
    store = ImportStore(
        services.metrics, app[TELEMETRY].imports, app[BODIES].of(tenant).work, services.limits.rates
    )
    await store.add(tenant, format_name, columns, outcome)
