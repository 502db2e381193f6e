"""Letters change their case as in Go: each becomes one, whatever Python makes of it."""

import pytest

from promcompat.core.texts.letter_case import to_lower, to_title, to_upper


@pytest.mark.parametrize(
    ("text", "upper", "lower"),
    [
        ("Plain 1", "PLAIN 1", "plain 1"),
        ("straße", "STRAßE", "straße"),
        ("İ", "İ", "i"),
        ("\u03a9\u03a3", "\u03a9\u03a3", "\u03c9\u03c3"),
        ("ᾳ ᾲ ŉ ﬁ", "ᾼ ᾲ ŉ ﬁ", "ᾳ ᾲ ŉ ﬁ"),
        ("\udc80é", "\udc80É", "\udc80é"),
    ],
)
def test_each_letter_becomes_one(text: str, upper: str, lower: str) -> None:
    assert (to_upper(text), to_lower(text)) == (upper, lower)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("", ""),
        ("some wOrds here's", "Some WOrds Here's"),
        ("foo-bar foo.bar foo:bar foo_bar", "Foo-Bar Foo.bar Foo:bar Foo_bar"),
        ("3com 4x4 _x a1b x..y", "3Com 4X4 _X A1b X..Y"),
        ("ǆ ﬁx a\u200bb", "ǅ Fix A\u200bB"),
    ],
)
def test_the_first_letter_of_each_word_is_in_title_case(text: str, title: str) -> None:
    assert to_title(text) == title
