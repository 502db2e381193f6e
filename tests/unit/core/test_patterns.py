"""Regular expressions: what Go's regexp package takes, within what RE2 may take of us."""

import pytest

from promcompat.core.errors import BadDataError
from promcompat.core.patterns.compiled import (
    _CACHE,
    LARGE_MEMORY_BYTES,
    MAX_CACHE_BYTES,
    SMALL_MEMORY_BYTES,
    TINY_MEMORY_BYTES,
    Pattern,
    compile_capturing,
    compile_pattern,
)
from promcompat.core.patterns.syntax import MAX_COST, MAX_PATTERN_LENGTH, read_pattern

REFUSED = {
    r"\C": r"invalid escape sequence: `\C`",
    r"a|\C+": r"invalid escape sequence: `\C`",
    r"\Z": r"invalid escape sequence: `\Z`",
    "(?<=a)": "invalid named capture: `(?<=a)`",
    "x(?<!a)b": "invalid named capture: `(?<!a)b`",
    "(?P<é>a)": "invalid named capture: `(?P<é>`",
    "(?P<a b>x)": "invalid named capture: `(?P<a b>`",
    "(?P<>x)": "invalid named capture: `(?P<>`",
    "(?=a)": "invalid or unsupported Perl syntax: `(?=`",
    "x{1001}": "invalid repeat count: `{1001}`",
    "(x{1000}){2}": "invalid repeat count: `{2}`",
    "a**": "invalid nested repetition operator: `**`",
    "*a": "missing argument to repetition operator: `*`",
    "a(?P<n>b)(c": "missing closing ): `a(?P<n>b)(c`",
    "a)": "unexpected ): `a)`",
    "[a": "missing closing ]: `[a`",
    "[z-a]": "invalid character class range: `z-a`",
    r"\p{Foo}": r"invalid character class range: `\p{Foo}`",
    "a\\": "trailing backslash at end of expression: ``",
    "a\ud800*": "invalid UTF-8: `a\ud800*`",
}
"""Patterns with what Prometheus 3.5.3 says of them."""


@pytest.mark.parametrize(("pattern", "text"), REFUSED.items())
def test_refused_as_by_prometheus(pattern: str, text: str) -> None:
    with pytest.raises(BadDataError) as refused:
        compile_pattern(pattern)
    assert str(refused.value) == f"error parsing regexp: {text}"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(" * 10_000 + "a" + ")" * 10_000, "expression nests too deeply"),
        ("(" * 50_000, "expression nests too deeply"),
        ("(?:" * 5_000 + "a" + ")*" * 5_000, "expression nests too deeply"),
        ("x{1000}" * 20_000, "expression too large"),
        ("x{0,100}" * 2_000, "expression too large"),
        ("(?:x{0,9}y?){1000}", "expression too large"),
        ("(?:(?:x{0,10}){10}){10}" * 10, "expression too large"),
        ("(?i)" + r"\pL" * 3_000, "expression too large"),
        (r"[\pL\pN]{1000}", "expression too large"),
        (".{1000}" * 1_000, "expression too large"),
        (r"\S?" * 20_000, "expression too large"),
        ("x*?|" * 20_000, "expression too large"),
        ("a.b" * MAX_PATTERN_LENGTH, "expression too large"),
        ("(a|b)" * 17 + r".\." * 50_000, "expression too large"),
    ],
)
def test_what_would_take_seconds_to_compile_is_refused(pattern: str, text: str) -> None:
    with pytest.raises(BadDataError, match=text) as refused:
        compile_pattern(pattern)
    assert len(str(refused.value)) < 1_200


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("(a)" * 5_000, "a" * 5_000, "a"),
        ("(?P<n>a)" * 2_000 + "b*", "a" * 2_000, "a"),
        ("(" * 500 + "a+" + ")" * 500, "aaa", "b"),
        (".*".join(f"h{n}" for n in range(300)), "".join(f"h{n}" for n in range(300)), "h"),
        ("x{0,1000}y", "x" * 900 + "y", "x"),
        ("[^a]{500}", "b" * 500, "b"),
        (r"\pL{20}", "é" * 20, "1"),
    ],
)
def test_large_ones_match_without_captures(pattern: str, matching: str, other: str) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.matches(matching)
    assert not compiled.matches(other)


@pytest.mark.parametrize(
    ("pattern", "values"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a|b|", ["a", "b", ""]),
        ("^(?:a|b)$", ["a", "b"]),
        ("(a|b):(80|90)", ["a:80", "a:90", "b:80", "b:90"]),
        (r"web1\.example\.com|web2", ["web1.example.com", "web2"]),
        ("((a|b)c|d)e", ["ace", "bce", "de"]),
        (r"\Qa.b|c\E(x|y)", ["a.b|cx", "a.b|cy"]),
        ("(?P<n>a|b)c", ["ac", "bc"]),
        (r"a\$", ["a$"]),
        (r"\Qa$", ["a$"]),
        (r"\Q$\E", ["$"]),
        ("}]", ["}]"]),
        ("(a|b)(|c)", ["a", "ac", "b", "bc"]),
    ],
)
def test_alternatives_of_plain_texts_become_a_list(pattern: str, values: list[str]) -> None:
    assert list(compile_pattern(pattern).values or ()) == values
    # Where RE2 decides, it decides the same.
    closed = pattern + r"\E" * (r"\Q" in pattern and r"\E" not in pattern)
    by_re2 = compile_pattern(f"(?:{closed})|[^\\x00-\\x{{10FFFF}}]")
    assert by_re2.values is None
    for text in [*values, "", "a", "x", values[0] + "!"]:
        assert compile_pattern(pattern).matches(text) == by_re2.matches(text) == (text in values)


@pytest.mark.parametrize(
    "pattern",
    ["a.", "a*", "(a", "a)", "[ab]", "a{2}", r"\d", "(?i)a", "a^b", "a$b", r"\x41", "(a|b)?"],
)
def test_other_patterns_are_no_list(pattern: str) -> None:
    assert read_pattern(pattern).values is None


@pytest.mark.parametrize(
    "pattern",
    [
        "|".join(f"host{n:06}" for n in range(100_000)),
        "(" + "|".join(rf"host{n:06}\.example" for n in range(50_000)) + "):9100",
    ],
    ids=["plain", "with a port"],
)
def test_list_of_many_hosts_matches(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.values is not None
    some = next(iter(compiled.values))
    assert compiled.matches(some)
    assert not compiled.matches(some + "x")


def test_list_that_grows_by_multiplication_is_given_up() -> None:
    assert compile_pattern("(a|b)" * 17 + "c{3}").matches("ab" * 8 + "accc")
    assert read_pattern("(a|b)" * 20).values is None
    assert compile_pattern("(a|b)" * 20).matches("ab" * 10)


def test_cache_is_bounded_in_bytes() -> None:
    for number in range(1_000):
        compile_pattern(f"cached{number}.*")
    kept: list[Pattern] = [entry for entry, _ in _CACHE._entries.values()]
    assert sum(pattern.n_bytes for pattern in kept) <= _CACHE.n_bytes <= MAX_CACHE_BYTES
    assert len(kept) > 10
    sizes = {TINY_MEMORY_BYTES, SMALL_MEMORY_BYTES, LARGE_MEMORY_BYTES}
    assert {pattern.n_bytes for pattern in kept if pattern.values is None} <= sizes


def test_captures_are_there_for_replacements_and_bounded() -> None:
    match = compile_capturing("(?P<name>a+)(b)?").search("xaab")
    assert match is not None
    assert (match.group("name"), match.group(2), match.start(), match.end()) == ("aa", "b", 1, 4)
    with pytest.raises(BadDataError, match="expression too large"):
        compile_capturing("(a)" * 5_000)
    with pytest.raises(BadDataError, match="expression too large"):
        compile_capturing("|".join(["host"] * 50_000))


def test_cost_covers_what_repetitions_multiply() -> None:
    assert read_pattern("x{100}").cost == 100
    assert read_pattern("(?:xy{10}){10}").cost == pytest.approx(120, abs=20)
    assert read_pattern("x{0,1000}").cost > 10 * read_pattern("x{1000}").cost
    assert read_pattern("|".join(["abc"] * 20_000)).cost > MAX_COST
