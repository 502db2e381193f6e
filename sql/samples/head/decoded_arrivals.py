"""Arrivals as segments of the head."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from promcompat.core.model import IntArray
from promcompat.core.ports import ALL_TIME_MS
from sql.samples.arrivals.arrival_log import Arrival, ArrivalKind
from sql.samples.codec.page_decoding import CorruptPageError, decode_pages
from sql.samples.columns.fold import Deletion, Piece, first_of, in_order
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.head.segments import Segment


@dataclass(slots=True)
class TenantArrivals:
    """What arrived for one tenant: segments and deletions, each in the order of arrival."""

    segments: list[Segment] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)


@dataclass(slots=True)
class DecodedArrivals:
    """Arrivals by tenant, and all of them in their order.

    `unreadable` are the ids of those that cannot be decoded, or are of a kind that a later version
    has brought.
    """

    arrivals: Sequence[Arrival] = ()
    tenants: defaultdict[int, TenantArrivals] = field(
        default_factory=lambda: defaultdict(TenantArrivals)
    )
    unreadable: list[int] = field(default_factory=list)


def decoded_arrivals(arrivals: Sequence[Arrival]) -> DecodedArrivals:
    """Decode arrivals, whose ids ascend.

    Samples of one tenant and kind make one segment, unless a deletion comes between them. A page
    that cannot be decoded is left out: the drainer sets it aside, and counts it.
    """
    decoded = DecodedArrivals(arrivals)
    rows: defaultdict[tuple[int, ArrivalKind], list[tuple[Arrival, SeriesSamples]]]
    rows = defaultdict(list)
    pages = dict(_decoded_pages(arrivals, decoded.unreadable))
    for arrival in arrivals:
        if arrival.kind == ArrivalKind.DELETION:
            if not _append_deletion(decoded, arrival):
                continue
            for kind in (ArrivalKind.SAMPLES, ArrivalKind.REPLACEMENTS):
                _close(decoded, rows.pop((arrival.tenant_id, kind), []))
        elif arrival.kind == ArrivalKind.UNKNOWN:
            decoded.unreadable.append(arrival.id)
        elif arrival.id in pages:
            rows[arrival.tenant_id, arrival.kind].append((arrival, pages[arrival.id]))
    for row in rows.values():
        _close(decoded, row)
    return decoded


def _append_deletion(decoded: DecodedArrivals, arrival: Arrival) -> bool:
    try:
        series_ids = arrival.deleted_series
    except ValueError:
        decoded.unreadable.append(arrival.id)
        return False
    deletion = Deletion(arrival.id, series_ids, arrival.first_ms, arrival.last_ms)
    decoded.tenants[arrival.tenant_id].deletions.append(deletion)
    return True


def _close(decoded: DecodedArrivals, row: Sequence[tuple[Arrival, SeriesSamples]]) -> None:
    if row:
        decoded.tenants[row[0][0].tenant_id].segments.append(_segment(row))


def _segment(row: Sequence[tuple[Arrival, SeriesSamples]]) -> Segment:
    pieces = [_piece(arrival, samples) for arrival, samples in row]
    first, last = pieces[0], pieces[-1]
    samples = first_of([piece.samples for piece in in_order(pieces)])
    return Segment(
        Piece(samples, first.first_arrival, last.last_arrival, last.replaces),
        min(arrival.first_ms for arrival, _ in row),
        max(arrival.last_ms for arrival, _ in row),
    )


def decoded_pieces(
    arrivals: Sequence[Arrival], wanted: IntArray | None, start_ms: int, end_ms: int
) -> list[Piece]:
    """The samples of each arrival, of `wanted` series (ascending; None: all) within bounds."""
    by_id = {arrival.id: arrival for arrival in arrivals}
    pages = _decoded_pages(arrivals, [], wanted, start_ms, end_ms)
    return [_piece(by_id[arrival_id], samples) for arrival_id, samples in pages if len(samples)]


def _piece(arrival: Arrival, samples: SeriesSamples) -> Piece:
    return Piece(samples, arrival.id, arrival.id, arrival.kind == ArrivalKind.REPLACEMENTS)


def _decoded_pages(
    arrivals: Sequence[Arrival],
    unreadable: list[int],
    wanted: IntArray | None = None,
    start_ms: int = ALL_TIME_MS[0],
    end_ms: int = ALL_TIME_MS[1],
) -> Iterator[tuple[int, SeriesSamples]]:
    """The ids of arrivals with samples, and their pages."""
    with_samples = (ArrivalKind.SAMPLES, ArrivalKind.REPLACEMENTS)
    left = [arrival for arrival in arrivals if arrival.kind in with_samples]
    while True:
        payloads = [arrival.payload for arrival in left]
        try:
            pages = decode_pages(payloads, wanted, start_ms, end_ms)
        except CorruptPageError as exc:
            unreadable.append(left.pop(exc.index).id)
            continue
        return zip([arrival.id for arrival in left], pages, strict=True)
