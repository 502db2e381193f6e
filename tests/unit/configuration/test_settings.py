"""Settings: where they come from, what they refuse, what they never show."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from promcompat.configuration.settings import Settings
from promcompat.configuration.storage import default_data_dir
from promcompat.configuration.text import (
    env_name,
    faults_of,
    flag_name,
    public_values,
    unknown_variables,
    value_form,
)
from promcompat.configuration.types import parse_labels, split_listen_address
from promcompat.core.texts.durations import format_duration_ms, parse_duration_ms


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(env_name(name), raising=False)


def faults_with(name: str, value: str) -> list[str]:
    """The faults of a setting with a value, none if it can be used."""
    try:
        Settings(**{name: value})  # type: ignore[arg-type]
    except ValidationError as exc:
        return [*faults_of(exc)]
    return []


def test_defaults() -> None:
    settings = Settings()
    assert settings.listen_address == ("127.0.0.1", 9201)
    assert settings.database_url is None
    assert settings.query_timeout == 120_000
    assert settings.query_lookback_delta == 300_000


def test_environment_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMCOMPAT_MAX_FUTURE", "1h30m")
    monkeypatch.setenv("PROMCOMPAT_WORKERS", "3")
    monkeypatch.setenv("PROMCOMPAT_TENANCY", "")
    settings = Settings(workers=2)
    assert (settings.max_future, settings.workers, settings.tenancy) == (5_400_000, 2, "single")


@pytest.mark.parametrize("value", ["5", "2 minutes", "1m1h", "300y"])
def test_a_fault_of_a_duration_says_what_durations_look_like(value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(query_timeout=value)  # type: ignore[arg-type]
    assert list(faults_of(refused.value)) == [
        "--query-timeout (PROMCOMPAT_QUERY_TIMEOUT): must be a duration such as 500ms, 30s, 5m, "
        f"1h30m or 7d; it is {value!r}"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "9201"),
        ("listen", "host:99999"),
        ("listen", "::1:9201"),
        ("workers", "0"),
        ("tenancy", "many"),
        ("query_timeout", "2 minutes"),
        ("query_timeout", "-1s"),
        ("database_url", "mysql://h/db"),
        ("data_dir", "~no-such-account/data"),
        ("chunk_interval", "90m"),
        ("cors_origin", "("),
        ("outgoing_allow", "10.0.0.0/33"),
        ("outgoing_allow", "https://hooks.example.com"),
        ("remediation_http_hosts", "example.com/path"),
        ("write_max_body_bytes", "0"),
    ],
)
def test_bad_values_are_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(env_name(name), value)
    with pytest.raises(ValidationError, match=name):
        Settings()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("retention_days", "30d", "must be a whole number; it is '30d'"),
        ("workers", "1.5", "must be a whole number; it is '1.5'"),
        ("workers", "0", "must be greater than or equal to 1; it is '0'"),
        ("admin_api", "maybe", "must be true or false; it is 'maybe'"),
        ("access", "token", "must be 'off', 'tokens' or 'gateway'; it is 'token'"),
        ("workers", "9" * 5_000, "must be a smaller number"),
        ("secrets", '{"pager": {"env": "X"}}', "pager.hosts is missing"),
        ("secrets", '{"pager": {"env": "X", "hosts": ["h"], "fil": 1}}', "pager.fil is unknown"),
        ("secrets", '{"pager": "X"}', "pager must be an object"),
        ("remediation_commands", '{"scale": "kubectl"}', "scale must be a list"),
        ("remediation_commands", '{"scale": ["kubectl", 1]}', "scale.1 must be text"),
        ("temporal_address", "http://x:7233", "must be HOST:PORT, for example 127.0.0.1:9201"),
        ("query_timeout", "0s", "must be greater than 0s; it is '0s'"),
        ("query_timeout", "25d", "must be less than or equal to 24d; it is '25d'"),
        ("query_default_step", "0s", "must be greater than 0s; it is '0s'"),
        ("query_lookback_delta", "0", "must be greater than 0s; it is '0'"),
        ("worker_timeout", "999ms", "must be greater than or equal to 1s; it is '999ms'"),
        ("external_url", "http://a,http://b", "must be one URL"),
        ("temporal_ui_url", "http://a,", "must be one URL"),
        ("secrets", '{"pager": {"env": "X", "hosts": []}}', "pager.hosts must not be empty"),
        ("remediation_commands", '{"scale": []}', "scale must not be empty"),
    ],
)
def test_faults_are_told_in_plain_words(name: str, value: str, reason: str) -> None:
    (fault,) = faults_with(name, value)
    assert fault.startswith(f"{flag_name(name)} ({env_name(name)}): {reason}")


def test_no_number_is_larger_than_all_parts_of_the_service_can_handle() -> None:
    for name in Settings.model_fields:
        assert value_form(name) != "NUMBER" or faults_with(name, str(2**53 + 1)), name
    assert faults_with("max_global_series_per_user", "9" * 30) == [
        "PROMCOMPAT_MAX_GLOBAL_SERIES_PER_USER must be at most 9007199254740992"
    ]


@pytest.mark.parametrize("name", ["alertmanager_headers", "webhook_headers"])
def test_headers_have_names_that_http_has(name: str) -> None:
    secrets = {"secrets": '{"s": {"env": "X", "hosts": ["h"]}}'}
    Settings(**{name: "X-Api-Key=s"}, **secrets)  # type: ignore[arg-type]
    with pytest.raises(ValidationError) as refused:
        Settings(**{name: "X Key=s"}, **secrets)  # type: ignore[arg-type]
    (fault,) = faults_of(refused.value)
    assert fault == f"{env_name(name)} has 'X Key', which is not the name of a header"


@pytest.mark.parametrize("value", ["-1.5x", "[5]", '{"a": 5}', '{"a": [5]}', '{"a": {"b": 5}}'])
def test_no_setting_has_faults_in_the_words_of_the_library(value: str) -> None:
    faults = [fault for name in Settings.model_fields for fault in faults_with(name, value)]
    assert len(faults) > 50
    words = r"Input|valid (integer|boolean|string|dict|list|tuple)|unable|instance of"
    for fault in faults:
        assert not re.search(words, fault), fault


def test_faults_have_the_value_unless_it_may_be_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMCOMPAT_WORKERS", "many")
    monkeypatch.setenv("PROMCOMPAT_DATABASE_URL", "mysql://user:secret@h/db")
    monkeypatch.setenv("PROMCOMPAT_ALERTMANAGER_URLS", "http://user:secret@:9093")
    with pytest.raises(ValidationError) as raised:
        Settings()
    faults = {fault.split(" ")[0]: fault for fault in faults_of(raised.value)}
    assert faults.keys() == {"--workers", "--database-url", "--alertmanager-urls"}
    assert faults["--workers"].endswith("; it is 'many'")
    assert "secret" not in "".join(faults.values())


def test_faults_of_settings_that_do_not_fit_together_name_them() -> None:
    with pytest.raises(ValidationError) as raised:
        Settings(tls_cert_file="here")
    assert [*faults_of(raised.value)] == [
        "PROMCOMPAT_TLS_CERT_FILE and PROMCOMPAT_TLS_KEY_FILE must be set together"
    ]


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Settings().workers = 2  # type: ignore[misc]


def test_passwords_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PROMCOMPAT_DATABASE_URL", "postgresql://me:pa55word@h:1/db?password=pa55word"
    )
    settings = Settings()
    assert public_values(settings)["database_url"] == "postgresql://h:1/db"
    assert "pa55word" not in repr(settings)


def test_data_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_data_dir() == Path("/data/promcompat")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_data_dir() == Path("/home/me/.local/share/promcompat")


def test_typing_errors_in_variables_are_found() -> None:
    names = ["PROMCOMPAT_LISTEN", "PROMCOMPAT_LISTN", "HOME"]
    assert unknown_variables(names) == {"PROMCOMPAT_LISTN": "PROMCOMPAT_LISTEN"}
    assert unknown_variables(["PROMCOMPAT_QWJXK"]) == {"PROMCOMPAT_QWJXK": ""}


@pytest.mark.parametrize(
    ("address", "parts"),
    [(":9201", ("0.0.0.0", 9201)), ("[::1]:0", ("::1", 0)), ("localhost:1", ("localhost", 1))],
)
def test_listen_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_listen_address(address) == parts


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0", 0), ("1m0s", 60_000), ("1h0m0s", 3_600_000), ("1y2w", 32_745_600_000), ("7ms", 7)],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds
    assert parse_duration_ms(format_duration_ms(milliseconds)) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "1m1h", "1.5h", "-5m", "5M", "300y", "5m ", "٣s"])
def test_texts_that_are_no_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration_ms(text)


def test_labels_are_written_as_pairs() -> None:
    assert parse_labels(" cluster = eu-1, replica=a=b, ").as_dict() == {
        "cluster": "eu-1", "replica": "a=b",
    }  # fmt: skip
    for text in ("cluster", "=x", "a=1,a=2", "__name__=x"):
        with pytest.raises(ValueError, match="NAME=VALUE"):
            parse_labels(text)
