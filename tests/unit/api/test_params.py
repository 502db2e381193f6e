"""Parameters as Prometheus 3.5.3 reads them; the cases were asked of one."""

import pytest

from promcompat.api.forms import Form, parse_urlencoded
from promcompat.api.params import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    parse_duration_ns,
    parse_eval_range,
    parse_go_int,
    parse_limit,
    parse_lookback_ms,
    parse_matcher_sets,
    parse_optional_time_ms,
    parse_time_ms,
    parse_timeout_seconds,
    unescape_label_name,
)
from promcompat.core.errors import BadDataError
from promcompat.core.model import EvalRange
from promcompat.core.texts.strconv import quote


def form(**values: str) -> Form:
    return Form(values.items())


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("0", 0),
        ("1.5", 1500),
        ("1e3", 1_000_000),
        ("-1.5", -1500),
        ("1.0015", 1002),
        ("1.0005", 1000),
        ("-0.0005", -1),
        ("1.57", 1570),
        ("1_0", 10_000),
        ("1e0_1", 10_000),
        ("0x_1p0", 1_000),
        (".5", 500),
        ("0x1p4", 16_000),
        ("2026-01-02T03:04:05.9999Z", 1_767_323_045_999),
        ("2026-01-02T03:04:05+01:00", 1_767_319_445_000),
        ("2026-01-02T03:04:05,5Z", 1_767_323_045_500),
        ("1969-12-31T23:59:59.5-00:30", 1_799_500),
        ("0000-02-29T00:00:00Z", -62_162_121_600_000),
        ("-292273086-05-16T16:47:06Z", MIN_TIME_MS),
        ("292277025-08-18T07:12:54.999999999Z", MAX_TIME_MS),
        ("1e300", MAX_TIME_MS),
        ("-Inf", MIN_TIME_MS),
        ("NaN", MIN_TIME_MS),
        ("1700000000000", 1_700_000_000_000_000),
    ],
)
def test_times_are_parsed(text: str, time_ms: int) -> None:
    assert parse_time_ms(text) == time_ms


@pytest.mark.parametrize(
    "text",
    ["", "abc", "1e400", "+nan", "0x10", " 1", "1 ", "2026-01-02T03:04:05", "2026-01-02t03:04:05z",
     "2026-02-30T03:04:05Z", "2026-01-02", "٣"],
)  # fmt: skip
def test_texts_that_are_no_times_are_refused(text: str) -> None:
    with pytest.raises(BadDataError) as caught:
        parse_time_ms(text)
    assert str(caught.value) == f"cannot parse {quote(text)} to a valid timestamp"


def test_fractions_round_half_away_from_zero_and_not_to_even() -> None:
    assert [parse_time_ms(text) for text in ("0.0005", "0.0015", "0.0025")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("15", 15_000_000_000),
        ("0.5", 500_000_000),
        ("5m", 300_000_000_000),
        ("1m0s", 60_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("500ms", 500_000_000),
        ("0", 0),
        ("-1", -1_000_000_000),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "x", "1m1h", "1.5h", "-5m", "5 m"])
def test_texts_that_are_no_durations_are_refused(text: str) -> None:
    with pytest.raises(BadDataError) as caught:
        parse_duration_ns(text)
    assert str(caught.value) == f'cannot parse "{text}" to a valid duration'


def test_duration_that_overflows() -> None:
    with pytest.raises(BadDataError) as caught:
        parse_duration_ns("1e30")
    assert str(caught.value) == 'cannot parse "1e30" to a valid duration. It overflows int64'


def test_eval_range_allows_11001_points() -> None:
    assert parse_eval_range(form(start="0", end="11000", step="1")) == EvalRange(
        0, 11_000_000, 1000
    )
    with pytest.raises(BadDataError, match="exceeded maximum resolution of 11,000 points"):
        parse_eval_range(form(start="0", end="11001", step="1"))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, 'invalid parameter "start": cannot parse "" to a valid timestamp'),
        (
            {"start": "1", "end": "0", "step": "1"},
            'invalid parameter "end": end timestamp must not be before start time',
        ),
        (
            {"start": "1", "end": "2", "step": "0"},
            'invalid parameter "step": zero or negative query resolution step widths are not '
            "accepted. Try a positive integer",
        ),
        (
            {"start": "1", "end": "2"},
            'invalid parameter "step": cannot parse "" to a valid duration',
        ),
    ],
)
def test_eval_range_errors(values: dict[str, str], text: str) -> None:
    with pytest.raises(BadDataError) as caught:
        parse_eval_range(form(**values))
    assert str(caught.value) == text


def test_steps_below_a_millisecond_are_one() -> None:
    assert parse_eval_range(form(start="0", end="1", step="0.0005")).step_ms == 1


def test_optional_time_names_the_parameter_twice() -> None:
    with pytest.raises(BadDataError) as caught:
        parse_optional_time_ms(form(time="abc"), "time", 0)
    assert str(caught.value) == (
        "invalid parameter \"time\": invalid time value for 'time': "
        'cannot parse "abc" to a valid timestamp'
    )
    assert parse_optional_time_ms(form(), "time", 7) == 7


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-1", "limit must be non-negative"),
        ("x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("1.5", 'strconv.Atoi: parsing "1.5": invalid syntax'),
        (
            "99999999999999999999",
            'strconv.Atoi: parsing "99999999999999999999": value out of range',
        ),
    ],
)
def test_limit_errors(text: str, reason: str) -> None:
    with pytest.raises(BadDataError) as caught:
        parse_limit(form(limit=text))
    assert str(caught.value) == f'invalid parameter "limit": {reason}'


def test_limits_are_parsed_as_by_go() -> None:
    assert [parse_limit(form(limit=text)) for text in ("", "0", "+5", "007")] == [0, 0, 5, 7]
    with pytest.raises(BadDataError, match="out of range"):
        parse_go_int("9" * 5000)


def test_timeout_of_zero_is_not_no_timeout() -> None:
    assert parse_timeout_seconds(form()) is None
    assert parse_timeout_seconds(form(timeout="1m")) == 60.0
    for text in ("0", "-1"):
        seconds = parse_timeout_seconds(form(timeout=text))
        assert seconds is not None
        assert 0 < seconds < 1e-6


def test_lookback() -> None:
    assert parse_lookback_ms(form()) is None
    assert parse_lookback_ms(form(lookback_delta="0")) is None
    assert parse_lookback_ms(form(lookback_delta="1m")) == 60_000
    with pytest.raises(BadDataError) as caught:
        parse_lookback_ms(form(lookback_delta="x"))
    assert str(caught.value) == (
        'error parsing lookback delta duration: cannot parse "x" to a valid duration'
    )


@pytest.mark.parametrize("selector", ["{}", '{job=~".*"}', '{a=""}', '{a!="x"}'])
def test_selectors_that_match_everything_are_refused(selector: str) -> None:
    with pytest.raises(BadDataError) as caught:
        parse_matcher_sets(["up", selector])
    assert "match" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("U__foo_2e_bar", "foo.bar"),
        ("U__a__b", "a_b"),
        ("U___1F600_", "\U0001f600"),
        ("U__a_zz_", "U__a_zz_"),
        ("U__a_", "U__a_"),
        ("U__a_2e", "U__a_2e"),
        ("U__a_D800_", "U__a_D800_"),
        ("U__a_00002e_", "U__a_00002e_"),
        ("job", "job"),
        ("U__", ""),
    ],
)
def test_label_names_are_unescaped(name: str, plain: str) -> None:
    assert unescape_label_name(name) == plain


def test_malformed_pairs_are_left_out_and_reported() -> None:
    pairs, fault = parse_urlencoded("a=1&b=%zz&c=2;d=3&&e=%41+x&f")
    assert pairs == [("a", "1"), ("e", "A x"), ("f", "")]
    assert fault == 'invalid URL escape "%zz"'


@pytest.mark.parametrize("piece", ["%28%29+", "a%c3%A4%ff", "%25%32%35", "\u00e4+%2B", "plain"])
def test_long_texts_are_unescaped_as_short_ones(piece: str) -> None:
    ((_, short),), _ = parse_urlencoded(f"q={piece}")
    ((name, long),), fault = parse_urlencoded(f"{piece * 1_000}={piece * 1_000}")
    assert fault == ""
    assert name == long == short * 1_000
