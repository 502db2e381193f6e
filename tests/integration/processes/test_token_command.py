"""`promcompat token` on a real database."""

import pytest

from promcompat.__main__ import main
from promcompat.access.token_text import is_token_text

pytestmark = pytest.mark.integration


def test_tokens_are_made_listed_and_revoked(
    timescaledb_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["token", "--database-url", timescaledb_database_url, *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    code, text, _ = run("create", "root", "--role", "admin", "--all-tenants")
    assert code == 0
    # Only the token goes to standard output, so that a script can keep it.
    assert is_token_text(text.strip())
    roles = ("--role", "write", "--role", "read")
    tenants = ("--tenant", "a", "--tenant", "b")
    assert run("create", "p-1", *roles, *tenants, "--expires-in", "1d")[0] == 0
    code, _, error = run("create", "p-1", *roles)
    assert (code, "there is a token named 'p-1' already" in error) == (1, True)
    _, listed, _ = run("list")
    first, second = listed.splitlines()
    assert first == "root: admin; every tenant; never used"
    assert second.startswith("p-1: read, write; a, b; never used, expires 2")
    assert run("revoke", "p-1")[0] == 0
    assert run("revoke", "p-1")[0] == 1
    assert run("list")[1] == f"{first}\n"
    for wrong, reason in (
        (("a b", "--role", "read"), "the name of a token must be"),
        (("x", "--role", "read", "--expires-in", "soon"), "--expires-in soon"),
    ):
        code, _, error = run("create", *wrong)
        assert (code, reason in error) == (1, True), error
