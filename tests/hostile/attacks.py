"""Small requests that once stopped the service, or might: each is answered and harms nobody."""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import snappy

from tests.hostile.service import Request
from tests.support.factories import encode_field
from tests.support.formats.remote_write import encode_metadata, encode_sample, encode_series

NOW_MS = 1_700_000_000_000
WRITE_HEADERS = (("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf"))
JSON_HEADERS = (("Content-Type", "application/json"),)
GZIP_HEADERS = (*JSON_HEADERS, ("Content-Encoding", "gzip"))
FORM_HEADERS = (("Content-Type", "application/x-www-form-urlencoded"),)
_END = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
NATIVE = "/api/v1/metrics"


@dataclass(frozen=True, slots=True)
class Attack:
    """Requests that are sent at the same time; made when they are sent, as they are large."""

    name: str
    make: Callable[[], list[Request]]


def _write(message: bytes) -> Request:
    return Request.of("POST", "/api/v1/write", snappy.compress(message), WRITE_HEADERS)


def _ingest(body: bytes, headers: tuple[tuple[str, str], ...] = JSON_HEADERS) -> Request:
    return Request.of("POST", f"{NATIVE}/ingest/batch", body, headers)


def _form(body: bytes, path: str = "/api/v1/query") -> Request:
    return Request.of("POST", path, body, FORM_HEADERS)


def _rule(**fields: object) -> Request:
    rule = {"name": "r", "expr": "up > 0", **fields}
    return Request.of("POST", f"{NATIVE}/rules", json.dumps(rule).encode(), JSON_HEADERS)


def _new_series(n_series: int) -> bytes:
    return b"".join(
        _one_series([("__name__", "n"), ("i", f"{time.monotonic_ns()} {number}")])
        for number in range(n_series)
    )


def _one_series(labels: list[tuple[str, str]]) -> bytes:
    return encode_field(1, encode_series(labels, (NOW_MS, 1.0)))


def _samples(n_samples: int) -> bytes:
    labels = encode_series([("__name__", "many")])
    samples = (encode_field(2, encode_sample(NOW_MS + number, 1.0)) for number in range(n_samples))
    return encode_field(1, labels + b"".join(samples))


def _metadata() -> bytes:
    entry = encode_metadata("m" * 5_000, 1, "h" * 100_000)
    return encode_field(3, entry) + _one_series([("__name__", "good")])


def _batch(*items: object) -> bytes:
    return json.dumps({"metrics": list(items)}).encode()


def _sample(**fields: object) -> dict[str, object]:
    return {"name": "m", "value": 1, "timestamp": NOW_MS / 1000, **fields}


def _many(number: int, make: Callable[[int], Request]) -> list[Request]:
    return [make(index) for index in range(number)]


def _queries() -> Iterator[Attack]:
    """What is costly in the language itself."""
    nested = "(" * 9_900 + "a" + ")" * 9_900
    texts = {
        "regex of nested groups": f'up{{a=~"{nested}"}}',
        "regex of repeats": 'up{a=~"((a{1,100}){1,100}){1,100}"}',
        "thousands of subqueries": "max_over_time(" * 4_000 + "up" + "[1h:1m])" * 4_000,
        "thousands of matchers": "up{" + ",".join(f'a{n}=~"b.*"' for n in range(5_000)) + "}",
        "deep parentheses": "(" * 100_000 + "1" + ")" * 100_000,
        "long chain": "+".join(["up"] * 50_000),
        "subquery of a year": '{__name__=~".+"}[1y:1s]',
        "label_replace with a large regex": f'label_replace(up,"a","$1","b","{nested}")',
        "long string": f'count_values("{"v" * 1_000_000}", up)',
    }
    for name, text in texts.items():
        body = b"query=" + quote(text).encode()
        yield Attack(name, lambda body=body: [_form(body)] * 2)


ATTACKS: tuple[Attack, ...] = (
    Attack(
        "gzip of 20-byte members", lambda: [_ingest(gzip.compress(b"") * 200_000, GZIP_HEADERS)]
    ),
    Attack("gzip bomb", lambda: [_ingest(gzip.compress(bytes(100 << 20)), GZIP_HEADERS)] * 4),
    Attack("form of a&a&…", lambda: [_form(b"a&" * 5_000_000)] * 3),
    Attack("form of escapes", lambda: [_form(b"query=" + b"%41" * 3_000_000)] * 2),
    Attack("form of bad UTF-8", lambda: [_form(b"query=" + b"\xff" * 9_000_000)] * 2),
    Attack("form too large", lambda: [_form(b"a" * 33_000_000)]),
    Attack("thousands of match[]", lambda: [_form(b"match[]=up&" * 9_999, "/api/v1/series")] * 2),
    Attack(
        "multipart of empty parts",
        lambda: [
            Request.of(
                "POST",
                "/api/v1/query",
                b"--b\r\n\r\n\r\n" * 900_000,
                (("Content-Type", "multipart/form-data; boundary=b"),),
            )
        ],
    ),
    Attack("empty series", lambda: [_write(b"\x0a\x00" * 16_000_000)] * 3),
    Attack("empty metadata", lambda: [_write(b"\x1a\x00" * 16_000_000)] * 2),
    Attack("unknown fields", lambda: [_write(b"\x08\x01" * 16_000_000)] * 2),
    Attack("empty samples", lambda: [_write(encode_field(1, b"\x12\x00" * 10_000_000))] * 2),
    Attack("empty labels", lambda: [_write(encode_field(1, b"\x0a\x00" * 10_000_000))] * 2),
    Attack("90,000 samples of a series", lambda: [_write(_samples(90_000))]),
    Attack("30,000 new series", lambda: [_write(_new_series(30_000))]),
    Attack("860,000 series", lambda: [_write(_new_series(1) * 860_000)]),
    Attack(
        "a label of 30 MB",
        lambda: [_write(_one_series([("__name__", "m"), ("l", "v" * 30_000_000)]))],
    ),
    Attack(
        "1.5 million labels",
        lambda: [_write(encode_field(1, encode_series([("l", "v")]) * 1_500_000))],
    ),
    Attack(
        "series as large as may be",
        lambda: _many(
            4,
            lambda index: _write(
                b"".join(
                    _one_series(
                        [("__name__", "large"), ("i", f"{index} {number}")]
                        + [(f"l{n}", "v" * 2_048) for n in range(28)]
                    )
                    for number in range(200)
                )
            ),
        ),
    ),
    Attack("metadata that no index takes", lambda: [_write(_metadata())]),
    Attack(
        "snappy that lies",
        lambda: [_write_raw(b"\xff\xff\xff\xff\x0f"), _write_raw(b"\x80\x80\x80\x0f")],
    ),
    Attack("JSON of a million items", lambda: [_ingest(b"[" + b"1," * 900_000 + b"1]")] * 3),
    Attack("JSON of 16 million items", lambda: [_ingest(b"[" + b"1," * 15_000_000 + b"1]")] * 2),
    Attack(
        "deep JSON", lambda: [_ingest(b'{"metrics":' + b"[" * 900_000), _rule_raw(b"[" * 900_000)]
    ),
    Attack(
        "JSON of a long number",
        lambda: [_ingest(b'{"metrics":[{"name":"m","value":' + b"9" * 5_000_000 + b"}]}")],
    ),
    Attack("a batch of faults", lambda: [_ingest(_batch(*[{}] * 10_000))] * 2),
    Attack(
        "a batch of new series",
        lambda: _many(
            3,
            lambda index: _ingest(
                _batch(*(_sample(labels={"i": f"{index} {n}"}) for n in range(10_000)))
            ),
        ),
    ),
    Attack(
        "samples with thousands of labels",
        lambda: [
            _ingest(
                _batch(*(_sample(labels={f"l{n}": "v" for n in range(5_000)}) for _ in range(40)))
            )
        ],
    ),
    Attack(
        "rule of 100 annotations",
        lambda: [_rule(annotations={f"a{n}": "{{ $value }} " * 700 for n in range(100)})] * 3,
    ),
    Attack(
        "rule that ranges for ever",
        lambda: [_rule(annotations={"a": "{{ range 100000000000 }}{{ end }}"})],
    ),
    Attack("rule with a surrogate", lambda: [_rule(annotations={"a": '{{ printf "%c" 55296 }}'})]),
    Attack("rule with a long name", lambda: [_rule(name="r" * 100_000)]),
    Attack("rule of a deep expression", lambda: [_rule(expr="(" * 50_000 + "1" + ")" * 50_000)]),
    Attack(
        "URL of 100,000 parameters",
        lambda: [
            Request.of("GET", f"{path}?{'a&' * 100_000}")
            for path in ("/api/v1/query", f"{NATIVE}/names", "/api/v1/rules")
        ],
    ),
    Attack(
        "URL of a megabyte",
        lambda: [Request.of("GET", "/api/v1/query?query=" + "%41" * 340_000)] * 3,
    ),
    Attack(
        "heads that have to be brought into form",
        lambda: [
            Request.of("GET", "/api/v1/query?query=" + "ü" * 450_000),
            Request.of("GET", "/", headers=(("X", " " * 900_000), ("X", "ü\r\n y"))),
            Request.of("GET", "/", headers=(("X", "\r\n " * 300_000),)),
            Request.of("GET", "/", headers=(("X", "y"), *((("Content-Length", "0"),) * 9_000))),
        ],
    ),
    Attack(
        "path of a megabyte",
        lambda: [
            Request.of("GET", "/api/v1/label/" + "/a" * 500_000),
            Request.of("GET", "/" * 1_000_000),
            Request("pipelined", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET " + b"/a" * 400_000, _END),
        ],
    ),
    Attack(
        "a body of long chunk extensions",
        lambda: [_chunked(b"1;" + b"a" * 3_000_000 + b"\r\na\r\n")],
    ),
    Attack(
        "100,000 pipelined requests",
        lambda: [
            Request(
                "pipelined", b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n" * 100_000, b"GET /" + _END
            )
        ],
    ),
    Attack(
        "an upgrade to nothing",
        lambda: [
            Request.of(
                "GET",
                "/api/v1/labels",
                b"x" * 5_000_000,
                (("Connection", "upgrade"), ("Upgrade", "websocket")),
            )
        ],
    ),
    Attack(
        "thousands of silence matchers",
        lambda: [
            Request.of(
                "POST",
                f"{NATIVE}/alerts/silences",
                json.dumps(
                    {
                        "matchers": [{"name": "a", "operator": "=~", "value": ".*" * 40}] * 9_000,
                        "reason": "r",
                        "duration": "1h",
                    }
                ).encode(),
                JSON_HEADERS,
            )
        ],
    ),
    Attack(
        "9,000 headers",
        lambda: (
            [
                Request.of(
                    "GET",
                    "/api/v1/query?query=1",
                    headers=tuple((f"X-{n}", "v" * 90) for n in range(9_000)),
                )
            ]
            * 3
        ),
    ),
    Attack(
        "a Content-Type of parameters",
        lambda: [
            Request.of("POST", path, b"{}", (("Content-Type", f"{kind}; " + ';"' * 400_000),))
            for path, kind in (
                ("/api/v1/query", "multipart/form-data"),
                (f"{NATIVE}/ingest/batch", "application/json"),
                ("/api/v1/write", "application/x-protobuf"),
            )
        ],
    ),
    Attack(
        "an Accept-Encoding of parts",
        lambda: [
            Request.of("GET", "/api/v1/labels", headers=(("Accept-Encoding", "a;q=0," * 150_000),))
        ],
    ),
    Attack(
        "a Cookie of a megabyte",
        lambda: [Request.of("GET", "/api/v1/labels", headers=(("Cookie", "a=b;" * 250_000),))],
    ),
    *_queries(),
)


def _chunked(body: bytes) -> Request:
    head = b"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    fields = b"X-Scope-OrgID: hostile\r\nTransfer-Encoding: chunked\r\n"
    kind = b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    return Request("chunked", head + fields + kind, body + b"0\r\n\r\n")


def _write_raw(body: bytes) -> Request:
    return Request.of("POST", "/api/v1/write", body, WRITE_HEADERS)


def _rule_raw(body: bytes) -> Request:
    return Request.of("POST", f"{NATIVE}/rules", body, JSON_HEADERS)
