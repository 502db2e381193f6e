"""The text of tokens."""

import re

from hypothesis import given
from hypothesis import strategies as st

from promcompat.access.token_text import digest_of, is_token_text, new_token_text


def test_tokens_have_the_documented_form_and_are_different() -> None:
    texts = {new_token_text() for _ in range(100)}
    assert len(texts) == len({digest_of(text) for text in texts}) == 100
    for text in texts:
        assert re.fullmatch(r"promcompat_[A-Za-z0-9]{32}_[0-9a-f]{8}", text)
        assert is_token_text(text)


@given(st.integers(0, 51), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_typing_error_is_noticed(position: int, character: str) -> None:
    text = new_token_text()
    wrong = text[:position] + character + text[position + 1 :]
    assert is_token_text(wrong) == (wrong == text)


@given(st.text())
def test_other_texts_are_no_tokens(text: str) -> None:
    assert not is_token_text(text)
    assert not is_token_text(new_token_text() + "\n")
