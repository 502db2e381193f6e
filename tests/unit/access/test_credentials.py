"""Credentials in the headers of requests."""

import pytest

from promcompat.access.credentials import Credential, read_credential
from promcompat.core.errors import UnauthenticatedError


def test_the_first_header_that_is_not_empty_counts() -> None:
    assert read_credential({}) is None
    assert read_credential({"Authorization": " ", "DD-API-KEY": " k "}) == Credential("k")
    assert read_credential({"Authorization": "Token t", "DD-API-KEY": "k"}) == Credential("t")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer \udcff"},
        {"Authorization": "Basic \udcff"},
        {"DD-API-KEY": "\udcff"},
        {"DD-API-KEY": "ä"},
    ],
)
def test_text_that_is_not_ascii_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(UnauthenticatedError, match="ASCII"):
        read_credential(headers)
