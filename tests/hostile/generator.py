"""Random requests to every route of the service, as the router has them: a new one is covered too.

Paths are filled, parameters given and documents changed with values that have broken services
before. Bodies of the native API start from the examples of its routes, so that most of a request is
right and the odd part of it is reached. The same seed makes the same requests.
"""

import copy
import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote_from_bytes

import snappy

from native_api.contract.route import Route
from native_api.routes import ROUTES, install_native_api
from promcompat.api.routes import build_application
from promcompat.http.context import ServiceState
from promcompat.telemetry.telemetry import Telemetry
from tests.hostile.likely import BODIES, PARAMETERS, PARTS
from tests.hostile.service import Request
from tests.support.factories import encode_field
from tests.support.formats.remote_write import encode_metadata, encode_series
from tests.support.services.http_service import GivenSettings

TEXTS: tuple[str, ...] = (
    "",
    " ",
    "0",
    "-0",
    "1",
    "-1",
    "a",
    "up",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "ü",
    "😀",
    "\u202e",
    "%",
    "%00",
    "%zz",
    "'",
    '"',
    "\\",
    "`",
    "{}",
    "{{",
    "{{ . }}",
    "{{ range 9 }}",
    "[]",
    "[",
    "null",
    "true",
    "NaN",
    "+Inf",
    "-Inf",
    "1e400",
    "1e-400",
    "0x1p5",
    "1_000",
    "9" * 19,
    "9" * 20,
    "9" * 400,
    "-" + "9" * 19,
    str(2**31),
    str(2**53 + 1),
    str(2**63),
    str(2**64),
    str(-(2**63)),
    str(-(2**63) - 1),
    "0.1",
    "1,5",
    "1h",
    "-1h",
    "1d12h",
    "9999999999y",
    "0s",
    "1ms",
    "5m:1m",
    "now",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "2024-02-30T25:61:61Z",
    "2024-06-01T00:00:00+99:99",
    "20240601",
    "a" * 300,
    "a" * 5_000,
    "é" * 3_000,
    "../../etc/passwd",
    "..",
    "; DROP TABLE series;--",
    "$1",
    "%s",
    "__name__",
    "__name__=",
    "le",
    "quantile",
    "{__name__=~'.*'}",
    "up{a=~'('}",
    "up[5m]",
    "up offset -1y",
    "up @ 1e30",
    "rate(up[1m])",
    "sum(",
    "1/0",
    "vector(1e308)*1e10",
    'count_values("\xff", up)',
    'label_replace(up, "a\xff", "$1", "b", "(.*)")',
    "(a{1000}){1000}",
    ".*" * 500,
    "http://[::1",
    "*",
    'W/"1"',
    '"1"',
    "gzip",
    "text/html",
    "application/json",
    'a/b; c="',
    "=?utf-8?q?=",
)
VALUES: tuple[Any, ...] = (
    *TEXTS,
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**53,
    2**63,
    2**64,
    -(2**63) - 1,
    10**400,
    0.1,
    -0.0,
    1e308,
    [],
    {},
    [[]],
    [None],
    {"": ""},
    {"a": None},
    ["a"] * 200,
    {str(number): "x" for number in range(200)},
)
_PARAMETERS = (
    "query",
    "time",
    "start",
    "end",
    "step",
    "timeout",
    "limit",
    "lookback_delta",
    "stats",
    "match[]",
    "metric",
    "limit_per_metric",
    "type",
    "rule_name[]",
    "rule_group[]",
    "file[]",
    "exclude_alerts",
    "group_limit",
    "group_next_token",
    "state",
    "analyze",
    "buffers",
    "database_plan",
    "scrapePool",
    "match_target",
)
_HEADERS = (
    "Content-Type",
    "Content-Encoding",
    "Accept",
    "Accept-Encoding",
    "If-Match",
    "If-None-Match",
    "Origin",
    "Range",
    "Cookie",
    "Authorization",
    "X-Scope-OrgID",
    "Expect",
    "X-Forwarded-For",
    "User-Agent",
    "Referer",
    "X-Odd",
)
_COSTLY = ("/metrics", "/openapi.json", "/docs")
"""A fifth of the time went into these."""
_TENANT = "hostile"
"""Has not the hundreds of thousands of series that the known attacks make."""
_LIKELY = 0.6
_MOSTLY = 0.9
_PART = re.compile(r"\{[^}]+\}")


@dataclass(frozen=True, slots=True)
class Target:
    """A route of the router, and what the native API says of it."""

    method: str
    path: str
    route: Route | None

    @property
    def is_costly(self) -> bool:
        """Whether it answers a long document, and the same to nearly everything."""
        return self.method == "GET" and self.path.endswith(_COSTLY)


@cache
def targets() -> tuple[Target, ...]:
    """Every route of the service."""
    settings = GivenSettings()
    telemetry = Telemetry()
    app = build_application(settings, ServiceState(), telemetry)
    install_native_api(app)
    described = {(route.method, (route.full_path).rstrip("/")): route for route in ROUTES}
    found: dict[tuple[str, str], Target] = {}
    for served in app.router.routes():
        path = served.resource.canonical if served.resource is not None else "/"
        method = "POST" if served.method == "*" else served.method
        route = described.get((method, path.rstrip("/")))
        found[method, path] = Target(method, path, route)
    return tuple(found.values())


class RequestMaker:
    """Makes requests from a seed, each with one of the credentials; an empty one is none."""

    def __init__(self, seed: int, credentials: Sequence[str] = ("",)) -> None:
        self._random = random.Random(seed)
        self._credentials = credentials

    def requests(self, n_each: int) -> Iterator[Request]:
        """So many requests for each route, in random order; one for those that only cost time."""
        chosen = [target for target in targets() for _ in range(1 if target.is_costly else n_each)]
        self._random.shuffle(chosen)
        return map(self.request, chosen)

    def request(self, target: Target) -> Request:
        """A request for a route."""
        path = _PART.sub(self._part, target.path)
        parameters = self._parameters(target)
        headers, body = self._body(target)
        if self._random.random() < 0.3:
            headers = (*headers, (self._random.choice(_HEADERS), self._header_value()))
        if credential := self._random.choice(self._credentials):
            headers = (*headers, ("Authorization", credential))
        question = f"?{parameters}" if parameters else ""
        return Request.of(target.method, path + question, body, headers, ends=False, tenant=_TENANT)

    def _part(self, found: re.Match[str]) -> str:
        """A part of a path, which must not be empty."""
        return self._escaped(self._text_for(PARTS.get(found.group()[1:-1], ()))) or "x"

    def _text_for(self, likely: Sequence[str]) -> str:
        """What somebody would send, more often than an odd text."""
        if likely and self._random.random() < _LIKELY:
            return self._random.choice(likely)
        return self._text()

    def _text(self) -> str:
        return self._random.choice(TEXTS)

    def _escaped(self, text: str) -> str:
        return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="")

    def _header_value(self) -> str:
        return re.sub(r"[\0\r\n]", "", self._text())

    def _parameters(self, target: Target) -> str:
        names = _PARAMETERS if target.route is None else tuple(target.route.query.model_fields)
        n_given = self._random.choice((0, 1, 1, 2, 3, 5))
        pairs = []
        if target.route is None and self._random.random() < _LIKELY:
            # What the endpoint most likely requires.
            given = ("start", "end", "step") if "range" in target.path else ()
            first = "query" if "query" in target.path else "match[]"
            pairs = [
                f"{self._escaped(name)}={self._escaped(self._random.choice(PARAMETERS[name]))}"
                for name in (first, *given)
            ]
        for _ in range(n_given if names else 0):
            odd = self._random.random() < 0.05
            name = self._text() if odd else self._random.choice(names)
            text = self._text_for(PARAMETERS.get(name, ()))
            pairs.append(f"{self._escaped(name)}={self._escaped(text)}")
        return "&".join(pairs)

    def _body(self, target: Target) -> tuple[tuple[tuple[str, str], ...], bytes]:
        if target.method not in ("POST", "PUT", "PATCH"):
            return (), b""
        if target.route is not None:
            return self._json_body(target.route)
        if target.path.endswith(("v1/write", "push")):
            return self._write_body()
        for end, headers, likely in BODIES:
            if target.path.endswith(end) and self._random.random() < _MOSTLY:
                return headers, self._bent(likely)
        body = self._parameters(target).encode()
        kind = self._random.choice(("application/x-www-form-urlencoded", "multipart/form-data"))
        return (("Content-Type", kind),), body

    def _json_body(self, route: Route) -> tuple[tuple[tuple[str, str], ...], bytes]:
        examples = [example.body for example in route.examples if example.body is not None] or [{}]
        document = copy.deepcopy(self._random.choice(examples))
        for _ in range(self._random.choice((0, 1, 1, 2))):
            document = self._changed(document)
        # Lone surrogates stay escapes, as a client would send them.
        body = self._bent(json.dumps(document).encode())
        headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
        if self._random.random() < 0.1:
            return (*headers, ("Content-Encoding", "gzip")), self._bent(gzip.compress(body))
        return headers, body

    def _changed(self, document: Any) -> Any:
        """The document with an odd value somewhere, a key renamed, or a part of it gone."""
        if isinstance(document, dict) and document and self._random.random() < 0.9:
            key = self._random.choice(list(document))
            match self._random.random():
                case chance if chance < 0.7:
                    return {**document, key: self._changed(document[key])}
                case chance if chance < 0.8:
                    return {name: value for name, value in document.items() if name != key}
                case _:
                    return {**document, self._text(): document[key]}
        if isinstance(document, list) and document and self._random.random() < 0.9:
            index = self._random.randrange(len(document))
            return [*document[:index], self._changed(document[index]), *document[index + 1 :]]
        return self._random.choice(VALUES)

    def _write_body(self) -> tuple[tuple[tuple[str, str], ...], bytes]:
        times = (0, 1_700_000_000_000, -1, 2**63 - 1, -(2**63), 2**53)
        series = [
            encode_series(
                [(self._plain(), self._plain()) for _ in range(self._random.randrange(4))]
                + [("__name__", self._plain())] * self._random.choice((0, 1, 1, 1, 2)),
                (self._random.choice(times), self._random.choice((0.0, 1.0, float("nan")))),
            )
            for _ in range(self._random.randrange(4))
        ]
        message = b"".join(encode_field(1, self._bent(entry)) for entry in series)
        if self._random.random() < 0.5:
            entry = encode_metadata(self._plain(), self._random.randrange(20), self._plain())
            message += encode_field(3, entry)
        headers = (("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf"))
        return headers, self._bent(snappy.compress(self._bent(message)))

    def _plain(self) -> str:
        return self._text().encode(errors="replace").decode()

    def _bent(self, raw: bytes) -> bytes:
        """Most often the same bytes, else with a byte changed, or cut, or with some added."""
        if not raw or self._random.random() < 0.9:
            return raw
        index = self._random.randrange(len(raw))
        match self._random.randrange(3):
            case 0:
                return raw[:index] + bytes([self._random.randrange(256)]) + raw[index + 1 :]
            case 1:
                return raw[:index]
            case _:
                return raw[:index] + self._random.randbytes(8) + raw[index:]
