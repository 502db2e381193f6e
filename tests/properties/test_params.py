"""Whatever a client writes into a parameter, it is understood or refused as bad data."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promcompat.api.forms import Form, parse_urlencoded
from promcompat.api.params import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    check_label_name,
    parse_duration_ns,
    parse_eval_range,
    parse_go_int,
    parse_matcher_sets,
    parse_time_ms,
    unescape_label_name,
)
from promcompat.core.errors import BadDataError

numbers = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.from_regex(r"[+-]?[0-9_.]{1,6}(e[+-]?[0-9]{1,4})?", fullmatch=True),
    st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,12}(Z|[+-][0-9]{2}:[0-9]{2})"),
    st.from_regex(r"([0-9]{1,30}(y|w|d|h|m|s|ms)){1,3}", fullmatch=True),
)
texts = st.one_of(st.text(max_size=20), numbers)


@pytest.mark.parametrize("parse", [parse_time_ms, parse_duration_ns, parse_go_int])
@given(text=texts)
def test_numbers_and_times(parse: Callable[[str], int], text: str) -> None:
    try:
        value = parse(text)
    except BadDataError:
        return
    assert isinstance(value, int)
    assert -(1 << 63) <= value < 1 << 63


@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_every_float_is_a_time_within_bounds(seconds: float) -> None:
    time_ms = parse_time_ms(repr(seconds))
    assert MIN_TIME_MS <= time_ms <= MAX_TIME_MS
    if abs(seconds) < 1e12:
        assert abs(time_ms - seconds * 1000) <= 1


@given(texts, texts, texts)
@example("0", "346927536000", "1y")
def test_ranges_never_have_more_than_11001_steps(start: str, end: str, step: str) -> None:
    try:
        grid = parse_eval_range(Form([("start", start), ("end", end), ("step", step)]))
    except BadDataError:
        return
    assert 1 <= grid.n_steps <= 11_001


@given(st.text(max_size=40))
def test_query_strings(text: str) -> None:
    pairs, fault = parse_urlencoded(text)
    pieces = [piece for piece in text.split("&") if piece]
    assert len(pairs) <= len(pieces)
    assert bool(fault) is (len(pairs) < len(pieces))


@given(st.text(max_size=12))
def test_selectors(text: str) -> None:
    try:
        (matchers,) = parse_matcher_sets([text])
    except BadDataError:
        return
    assert not all(matcher.matches_empty() for matcher in matchers)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8))
def test_escaped_label_names_come_back(name: str) -> None:
    def escape(rune: str) -> str:
        if rune == "_":
            return "__"
        return rune if rune.isalnum() else f"_{ord(rune):x}_"

    escaped = "U__" + "".join(map(escape, name))
    if all(ord(rune) < 0x100000 for rune in name):
        assert unescape_label_name(escaped) == name
    check_label_name(name)
