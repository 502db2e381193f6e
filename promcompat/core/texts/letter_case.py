"""Upper and lower case as Go's packages have them, which differs from Python's methods.

Python maps some letters to several, as `ß` to `SS`, and writes a final `ς`; `strings.ToUpper` and
`strings.ToLower` of Go map each to one, or leave it.
"""

import unicodedata
from typing import Final

_MIDDLES: Final = frozenset(
    "'.:\u00b7\u0387\u055f\u05f4\u2018\u2019\u2024\u2027\ufe13\ufe52\ufe55\uff07\uff0e\uff1a"
)
"""MidLetter, MidNumLet and Single_Quote of Unicode's word boundaries: one alone ends no word."""
_OF_WORDS: Final = frozenset(["Nd", "Nl", "Pc", "Cf"])
_ZERO_WIDTH_SPACE: Final = "\u200b"


def to_upper(text: str) -> str:
    """`strings.ToUpper`."""
    return text.upper() if text.isascii() else "".join(map(_upper, text))


def to_lower(text: str) -> str:
    """`strings.ToLower`."""
    return text.lower() if text.isascii() else "".join(map(_lower, text))


def to_title(text: str) -> str:
    """`cases.Title(language.AmericanEnglish, cases.NoLower)` of golang.org/x/text.

    The first letter of each word that has a case; digits and underscores before it do not count.
    """
    found: list[str] = []
    is_in_word = was_middle = False
    for char in text:
        is_middle = char in _MIDDLES
        if is_middle and was_middle:
            is_in_word = False
        if char.islower() or char.isupper() or char.istitle():
            found.append(char if is_in_word else char.title())
            is_in_word = True
        else:
            found.append(char)
            is_in_word = is_in_word and (is_middle or _is_of_word(char))
        was_middle = is_middle
    return "".join(found)


def _upper(char: str) -> str:
    upper = char.upper()
    if len(upper) == 1:
        return upper
    # Greek letters with an iota below: the one that Unicode's table has is in title case.
    title = char.title()
    return title if len(title) == 1 else char


def _lower(char: str) -> str:
    # Of `İ` only: Python keeps its dot as a character of its own.
    return char.lower()[0]


def _is_of_word(char: str) -> bool:
    category = unicodedata.category(char)
    return (category[0] in "LM" or category in _OF_WORDS) and char != _ZERO_WIDTH_SPACE
