"""What actions may touch."""

import pytest

from promcompat.core.errors import BadDataError
from promcompat.remediation.actions import ActionPolicy

POLICY = ActionPolicy(
    commands={"restart": ("/bin/systemctl", "restart", "{unit}", "--quiet", "-n={count}")},
    http_hosts=frozenset({"api.example.org:8443", "ops", "*.internal"}),
    sql_functions=frozenset({"ops.repair"}),
)


def test_placeholders_stay_inside_their_argument() -> None:
    arguments = {"unit": "web; rm -rf / $(x)", "count": "-1"}
    assert POLICY.command_line("restart", arguments) == [
        "/bin/systemctl",
        "restart",
        "web; rm -rf / $(x)",
        "--quiet",
        "-n=-1",
    ]


def test_value_with_braces_is_not_expanded_again() -> None:
    line = POLICY.command_line("restart", {"unit": "{count}", "count": "1"})
    assert line[2] == "{count}"


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("rm", {}, "the command rm is not allowed"),
        ("restart", {"unit": "web"}, "takes exactly the arguments"),
        ("restart", {"unit": "web", "count": "1", "more": "x"}, "takes exactly the arguments"),
        ("restart", {"unit": "--force", "count": "1"}, "must not begin with -"),
        ("restart", {"unit": "a\0b", "count": "1"}, "contain NUL"),
    ],
)
def test_command_is_refused(name: str, arguments: dict[str, str], reason: str) -> None:
    with pytest.raises(BadDataError, match=reason):
        POLICY.command_line(name, arguments)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.org:8443/fix",
        "http://ops:9000/x",
        "https://OPS/x",
        "http://a.b.internal/",
    ],
)
def test_listed_host_is_allowed(url: str) -> None:
    POLICY.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.org/fix",
        "http://internal/",
        "http://notinternal/",
        "http://ops@evil.example/",
        "http://ops.evil.example/",
        "file:///etc/passwd",
        "ftp://ops/",
        "ops/fix",
        "http://[::1/",
        "http://ops:99999/",
    ],
)
def test_other_url_is_refused(url: str) -> None:
    with pytest.raises(BadDataError):
        POLICY.check_url(url)


def test_empty_list_of_hosts_allows_every_host_but_no_other_scheme() -> None:
    ActionPolicy().check_url("http://anywhere/")
    with pytest.raises(BadDataError):
        ActionPolicy().check_url("file:///etc/passwd")


def test_functions_are_allowed_by_their_exact_names() -> None:
    POLICY.check_function("ops.repair")
    for name in ("repair", "ops.repair2", "pg_sleep", ""):
        with pytest.raises(BadDataError, match="is not allowed"):
            POLICY.check_function(name)
