"""Templates with references to the groups of a match, as Go's `Regexp.Expand` expands them."""

import re

from promcompat.core.patterns.compiled import CompiledPattern, PatternMatch

_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<name>\w+)|\{(?P<braced>\w+)\})")
_MAX_GROUP_NUMBER_DIGITS = 9


def count_references(template: str) -> int:
    """How many references and escaped dollars a template has."""
    return len(_REFERENCE.findall(template))


def expand(template: str, pattern: CompiledPattern, match: PatternMatch) -> str:
    """The template with `$1`, `$name`, `${name}` replaced as Go's `Regexp.Expand` does.

    A name is as long as possible; `$$` is a dollar; a reference to no group becomes empty; a
    dollar that starts no reference stays.
    """

    def text_of(reference: re.Match[str]) -> str:
        if reference["dollar"]:
            return "$"
        group = _group_number(reference["name"] or reference["braced"], pattern)
        return "" if group is None else match.group(group) or ""

    return _REFERENCE.sub(text_of, template)


def _group_number(name: str, pattern: CompiledPattern) -> int | None:
    is_number = name.isascii() and name.isdigit() and len(name) <= _MAX_GROUP_NUMBER_DIGITS
    if is_number and (name == "0" or name[0] != "0"):
        return int(name) if int(name) <= pattern.groups else None
    return pattern.groupindex.get(name)
