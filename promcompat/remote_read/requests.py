"""Remote read requests: which samples they ask for, and in which form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import SeriesSelection
from promcompat.core.ports import ALL_TIME_MS
from promcompat.remote_read.remote_read_pb2 import LabelMatcher as WireMatcher
from promcompat.remote_read.remote_read_pb2 import Query, ReadRequest
from promcompat.remote_write.wire_fields import check_field_count, parse_message

MAX_QUERIES: Final = 1_000
_COUNTED_FROM_BYTES: Final = 1 << 16
_OPERATORS: Final = (MatchOp.EQUAL, MatchOp.NOT_EQUAL, MatchOp.REGEX, MatchOp.NOT_REGEX)


class AnswerForm(IntEnum):
    """The forms of an answer, by their numbers in the protocol."""

    SAMPLES = 0
    STREAMED_XOR_CHUNKS = 1


@dataclass(frozen=True, slots=True)
class RemoteRead:
    """What is asked for; `selections` has None for a query without matchers, which selects nothing.

    A client may send several queries, and expects an answer to each, in their order.
    """

    selections: tuple[SeriesSelection | None, ...]
    form: AnswerForm


def decode_read_request(
    message: bytes, check_time: Callable[[], object] = lambda: None
) -> RemoteRead:
    """Decode a `prometheus.ReadRequest`; hints are ignored, as a server may.

    `check_time` is called for each matcher, and what it raises ends this. Raises BadDataError for
    malformed protobuf, for a matcher that is not valid, and when the client accepts none of our
    forms.
    """
    if len(message) > _COUNTED_FROM_BYTES:
        check_field_count(message, MAX_QUERIES, "queries")
    request = parse_message(ReadRequest, message, "prometheus.ReadRequest")
    if len(request.queries) > MAX_QUERIES:
        raise BadDataError(f"the request has more than {MAX_QUERIES} queries")
    form = _choose_form(request.accepted_response_types)
    selections = tuple(_selection_of(query, check_time) for query in request.queries)
    return RemoteRead(selections, form)


def _choose_form(accepted: Sequence[int]) -> AnswerForm:
    """The first form of the client that we know; samples if it names none."""
    known = [int(form) for form in AnswerForm]
    for number in accepted or [int(AnswerForm.SAMPLES)]:
        if number in known:
            return AnswerForm(number)
    supported = ", ".join(f"{form} ({form.name})" for form in AnswerForm)
    raise BadDataError(
        "server does not support any of the requested response types: "
        f"{list(accepted)}; supported: {supported}"
    )


def _selection_of(query: Query, check_time: Callable[[], object]) -> SeriesSelection | None:
    if not query.matchers:
        return None
    first_ms, last_ms = ALL_TIME_MS
    return SeriesSelection(
        matchers=tuple(_matcher_of(wire, check_time) for wire in query.matchers),
        # A selection is open at its start.
        start_ms=min(max(query.start_timestamp_ms, first_ms + 1), last_ms) - 1,
        end_ms=max(min(query.end_timestamp_ms, last_ms), first_ms),
    )


def _matcher_of(wire: WireMatcher, check_time: Callable[[], object]) -> LabelMatcher:
    check_time()
    if wire.type >= len(_OPERATORS) or wire.type < 0:
        raise BadDataError(f"unknown matcher type {wire.type}; known are 0 (=) to 3 (!~)")
    try:
        name, value = wire.name.decode(), wire.value.decode()
    except UnicodeDecodeError as exc:
        raise BadDataError("a label matcher is not valid UTF-8") from exc
    matcher = LabelMatcher(name, _OPERATORS[wire.type], value)
    matcher.check_pattern()
    return matcher
