"""What is shown of addresses, and what is taken out of texts."""

import pytest

from promcompat.core.texts.secrets import (
    Redactor,
    database_secrets,
    origin_of,
    public_url,
    url_secrets,
)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pw@db:5432/metrics?sslmode=require&password=x", "postgresql://db:5432/metrics"),
        ("postgresql://u:p@ss@db/metrics", "postgresql://db/metrics"),
        ("postgresql://u:p/ss@db/metrics", "postgresql://db/metrics"),
        ("postgresql://u:pw@h1:1,h2:2/metrics", "postgresql://h1:1,h2:2/metrics"),
        ("http://am:9093/prefix", "http://am:9093/prefix"),
        ("http://token@am:9093/prefix?key=k#f", "http://am:9093/prefix"),
        ("no address, perhaps a password", "<hidden>"),
    ],
)  # fmt: skip
def test_address_is_shown_without_secrets(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_path_of_a_webhook_is_not_shown() -> None:
    assert origin_of("https://u:p@hooks.example:8/services/T000/SECRET?x=y") == (
        "https://hooks.example:8"
    )


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("http://user:pass%20word@h/", {"pass%20word", "pass word"}),
        ("http://token@h/", {"token"}),
        ("http://h/?key=value&other=2", {"key=value&other=2", "value"}),
    ],
)
def test_secrets_of_an_address(url: str, secrets: set[str]) -> None:
    assert secrets <= set(url_secrets(url))


def test_of_the_address_of_a_database_only_passwords_are_secret() -> None:
    options = (
        "sslmode=verify-full&sslrootcert=/etc/ca.pem&password=in%20it&sslpassword=key&host=/run"
    )
    found = set(database_secrets(f"postgresql://user:pass%40word@h/d?{options}"))
    assert found == {"pass%40word", "pass@word", "in%20it", "in it", "key"}
    assert set(database_secrets("postgresql://user@h/d")) == {""}


def test_secrets_are_taken_out_of_texts_the_longest_first() -> None:
    secrets = url_secrets("https://hooks.example/services/T0123456/abcdefgh", is_path_secret=True)
    redactor = Redactor([*secrets, "x"])
    text = "Cannot POST /services/T0123456/abcdefgh; abcdefgh is unknown, x stays"
    assert redactor.hide(text) == "Cannot POST <hidden>; <hidden> is unknown, x stays"
    assert Redactor().hide(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("got Bearer abcdefgh", "got <hidden>"),
        ("got abcdefgh", "got <hidden>"),
        ("got Bearer abcd", "got <hidden>"),
        ("abcdefgh, then Bearer abc", "<hidden>, then <hidden>"),
        ("got abcde", "got <hidden>"),
        ("Bearer of news", "Bearer of news"),
    ],
)
def test_a_text_that_is_cut_shows_no_part_of_a_secret(text: str, shown: str) -> None:
    assert Redactor(["Bearer abcdefgh"]).hide_cut(text) == shown


def test_a_body_that_is_cut_within_a_character() -> None:
    body = "got pässwörd".encode()
    assert Redactor(["pässwörd"]).hide_bytes(body[:-3], is_cut=True) == "got <hidden>"
    assert Redactor(["pässwörd"]).hide_bytes(body, is_cut=False) == "got <hidden>"
