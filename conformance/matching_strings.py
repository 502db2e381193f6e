"""Strings that a regular expression of a label matcher matches, found by trying."""

import re
from collections.abc import Iterable, Iterator

from promcompat.core.matchers import LabelMatcher, MatchOp

MAX_TRIES = 400
# The simplest text for a part of a pattern; the order matters.
_PARTS = (
    (re.compile(r"\(\?i:"), "("),
    (re.compile(r"\\d[+*]?"), "7"),
    (re.compile(r"\[\^[^\]]*\][+*]?"), "x"),
    (re.compile(r"\[(.)[^\]]*\][+*]?"), r"\1"),
    (re.compile(r"(?<!\\)\.[+*]"), "x"),
    (re.compile(r"(?<!\\)\."), "0"),
    (re.compile(r"\\(.)"), r"\1"),
    (re.compile(r"[\^$]"), ""),
)
_GROUP = re.compile(r"\(([^()]*)\)([?*]?)")


def strings_for(matchers: Iterable[LabelMatcher]) -> list[str]:
    """Values that satisfy every matcher, from what the matchers name; the empty one comes last."""
    conditions = list(matchers)
    tried = [value for matcher in conditions for value in _named_by(matcher)]
    values = dict.fromkeys(
        value for value in tried if all(matcher.matches(value) for matcher in conditions)
    )
    return sorted(values, key=lambda value: value == "")


def _named_by(matcher: LabelMatcher) -> list[str]:
    match matcher.op:
        case MatchOp.EQUAL:
            return [matcher.value]
        case MatchOp.REGEX:
            return _alternatives(matcher.value)
        case MatchOp.NOT_EQUAL | MatchOp.NOT_REGEX:
            return []


def _alternatives(pattern: str) -> list[str]:
    """Texts for the alternatives of a pattern, some of which it may not match."""
    waiting, texts = [pattern], []
    while waiting and len(texts) < MAX_TRIES:
        text = waiting.pop(0)
        group = _GROUP.search(text)
        if group is None:
            texts += [_simplest(part) for part in text.split("|")]
        else:
            waiting += list(_without_group(text, group))
    return texts


def _without_group(text: str, group: re.Match[str]) -> Iterator[str]:
    before, after = text[: group.start()], text[group.end() :]
    for part in group[1].removeprefix("?i:").split("|"):
        yield before + part + after
    if group[2]:
        yield before + after


def _simplest(part: str) -> str:
    for pattern, text in _PARTS:
        part = pattern.sub(text, part)
    return part
