"""Pages of lists, and the cursors between them: opaque texts that say where a page begins.

A cursor belongs to a list and to the filters of its page. With other filters it would silently skip
or repeat entries, so it is refused.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import orjson
from pydantic import Field

from native_api.contract.problem import InvalidRequestError, fault
from native_api.contract.route import QueryModel
from promcompat.core.texts.storable_text import text_fault

_MAX_SIGNED = (1 << 63) - 1
_MAY_CHANGE = {"cursor", "limit", "start", "end"}
"Not part of the filters. Where a list has a time range, its cursors carry it."

Part = int | str
PartT = TypeVar("PartT", int, str)
EntryT = TypeVar("EntryT")


class PageQuery(QueryModel):
    """Parameters of a list that is sorted by one unique part of its entries: an id or a name."""

    limit: int = Field(100, ge=1, le=1000, description="The maximum number of entries to return.")
    cursor: str | None = Field(None, description="The `next_cursor` of the previous page.")


def page_start(query: PageQuery, first: PartT) -> PartT:
    """The part behind which the page begins; `first` for the first page.

    Raises InvalidRequestError for a cursor that does not belong here.
    """
    if query.cursor is None:
        return first
    kind = type(first)
    return kind(decode_cursor(query, query.cursor, kind)[0])


def page_of(
    query: PageQuery, found: Sequence[EntryT], part_of: Callable[[EntryT], Part]
) -> tuple[Sequence[EntryT], str | None]:
    """The page and the cursor of the next one, out of up to `limit` + 1 entries from its start."""
    page = found[: query.limit]
    return page, encode_cursor(query, part_of(page[-1])) if len(found) > len(page) else None


def encode_cursor(query: QueryModel, *parts: Part) -> str:
    """The cursor after the entry that `parts` identify, for the list of `query`."""
    return base64.urlsafe_b64encode(orjson.dumps((_digest(query), *parts))).decode().rstrip("=")


def decode_cursor(query: QueryModel, cursor: str, *kinds: type) -> list[Part]:
    """The parts given to `encode_cursor`, checked for types and size.

    Raises InvalidRequestError for any other text, and for cursors of other lists or filters.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        found = None
    if not isinstance(found, list) or [type(part) for part in found] != [str, *kinds]:
        raise refused_cursor("is not a valid cursor")
    digest, *parts = found
    if digest != _digest(query):
        raise refused_cursor("belongs to another list or to different filters")
    if not all(map(_is_plausible, parts)):
        raise refused_cursor("is not a valid cursor")
    return parts


def refused_cursor(reason: str) -> InvalidRequestError:
    """The error of a cursor that cannot be used here."""
    expected = "the `next_cursor` of the previous page with the same parameters, or no cursor"
    return InvalidRequestError([fault("query", "cursor", reason, expected)])


def _is_plausible(part: Part) -> bool:
    if isinstance(part, int):
        return abs(part) <= _MAX_SIGNED
    return text_fault(part) is None


def _digest(query: QueryModel) -> str:
    text = type(query).__name__ + query.model_dump_json(exclude=_MAY_CHANGE)
    return hashlib.blake2b(text.encode(), digest_size=9).hexdigest()
