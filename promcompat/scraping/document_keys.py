"""The keys that a scrape configuration may have, and what is said about others."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Final

SECTIONS: Final = frozenset(["global", "scrape_configs", "scrape_config_files"])
OTHER_SECTIONS: Final[Mapping[str, str]] = {
    "alerting": "PROMCOMPAT_ALERTMANAGER_URLS",
    "rule_files": "PROMCOMPAT_RULE_FILES",
    "remote_write": "nothing: samples are stored here",
    "remote_read": "nothing: samples are read from here",
    "storage": "PROMCOMPAT_RETENTION_DAYS and PROMCOMPAT_MAX_EXEMPLARS",
    "otlp": "the settings PROMCOMPAT_OTLP_…",
    "tracing": "nothing",
    "runtime": "nothing",
}
"""Sections of Prometheus' file that do not concern scraping, and what does their work here."""

_LIMITS: Final = frozenset(
    [
        "body_size_limit",
        "sample_limit",
        "target_limit",
        "label_limit",
        "label_name_length_limit",
        "label_value_length_limit",
        "keep_dropped_targets",
    ]
)
_SHARED: Final = _LIMITS | frozenset(
    [
        "scrape_interval",
        "scrape_timeout",
        "scrape_protocols",
        "extra_scrape_metrics",
        "metric_name_validation_scheme",
        "metric_name_escaping_scheme",
        "always_scrape_classic_histograms",
        "convert_classic_histograms_to_nhcb",
        "scrape_native_histograms",
    ]
)
GLOBAL: Final = _SHARED | frozenset(
    [
        "external_labels",
        "evaluation_interval",
        "rule_query_offset",
        "query_log_file",
        "scrape_failure_log_file",
    ]
)
HTTP: Final = frozenset(
    [
        "basic_auth",
        "authorization",
        "bearer_token",
        "bearer_token_file",
        "oauth2",
        "tls_config",
        "follow_redirects",
        "enable_http2",
        "proxy_url",
        "http_headers",
    ]
)
JOB: Final = (
    _SHARED
    | HTTP
    | frozenset(
        [
            "job_name",
            "fallback_scrape_protocol",
            "honor_labels",
            "honor_timestamps",
            "track_timestamps_staleness",
            "metrics_path",
            "params",
            "scheme",
            "enable_compression",
            "scrape_failure_log_file",
            "native_histogram_bucket_limit",
            "native_histogram_min_bucket_factor",
            "relabel_configs",
            "metric_relabel_configs",
            "static_configs",
            "file_sd_configs",
            "http_sd_configs",
        ]
    )
)
BASIC_AUTH: Final = frozenset(["username", "username_file", "password", "password_file"])
AUTHORIZATION: Final = frozenset(["type", "credentials", "credentials_file"])
OAUTH2: Final = frozenset(
    [
        "client_id",
        "client_secret",
        "client_secret_file",
        "scopes",
        "token_url",
        "endpoint_params",
        "tls_config",
        "proxy_url",
    ]
)
TLS: Final = frozenset(
    [
        "ca",
        "ca_file",
        "cert",
        "cert_file",
        "key",
        "key_file",
        "server_name",
        "insecure_skip_verify",
        "min_version",
        "max_version",
    ]
)
HEADER: Final = frozenset(["values", "secrets", "files"])
GROUP: Final = frozenset(["targets", "labels"])
FILE_DISCOVERY: Final = frozenset(["files", "refresh_interval"])
HTTP_DISCOVERY: Final = HTTP | frozenset(["url", "refresh_interval"])

_UNSUPPORTED: Final[Mapping[str, str]] = {
    "no_proxy": "set proxy_url only in the jobs that need the proxy",
    "proxy_from_environment": "set proxy_url",
    "proxy_connect_header": "put the user and password of the proxy into proxy_url",
    "username_ref": "use username or username_file",
    "password_ref": "use password or password_file",
    "client_secret_ref": "use client_secret or client_secret_file",
    "client_certificate_key": "only grant_type client_credentials is",
    "client_certificate_key_file": "only grant_type client_credentials is",
    "grant_type": "leave it out: it is client_credentials",
    "credentials_ref": "use credentials or credentials_file",
    "ca_ref": "use ca or ca_file",
    "cert_ref": "use cert or cert_file",
    "key_ref": "use key or key_file",
}


def explaining(place: str, names: frozenset[str]) -> Callable[[str], str]:
    """What to say about a key that is not one of `names`; `place` names the mapping."""

    def explain(name: str) -> str:
        if name.endswith("_sd_configs"):
            return (
                f"{name} is not supported; use static_configs, file_sd_configs (a program may write"
                " the file) or http_sd_configs"
            )
        if name in _UNSUPPORTED:
            return f"{name} is not supported; {_UNSUPPORTED[name]}"
        longer = [known for known in sorted(names) if known.startswith(f"{name}_")]
        if close := get_close_matches(name, sorted(names), 1) or longer:
            return f"unknown key {name} in {place}; did you mean {close[0]}?"
        return f"unknown key {name} in {place}, which may have: {', '.join(sorted(names))}"

    return explain
