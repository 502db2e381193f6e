"""A service that is attacked: sends raw requests, watches its health and its memory."""

import asyncio
import base64
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from conformance.processes import RunningProgram, running_promcompat
from promcompat.access.token_text import digest_of, new_token_text
from promcompat.core.access import Role
from tests.hostile.channel import Channel, Raw

MEBIBYTE = 1 << 20
SETTINGS = {
    "tenancy": "header",
    "max_tenants": "50",
    "log_level": "error",
    "query_timeout": "2s",
    "query_max_memory_bytes": str(128 * MEBIBYTE),
    "query_cache_bytes": str(8 * MEBIBYTE),
    "series_cache_bytes": str(32 * MEBIBYTE),
    "max_held_body_bytes": str(128 * MEBIBYTE),
    # Requests that are right make things, which are to stay few.
    "max_global_series_per_user": "200000",
    "max_rules": "100",
    "max_definitions": "100",
    "max_dashboards": "100",
    "max_silences": "100",
}
MAX_RESIDENT_BYTES = 900 * MEBIBYTE
"""An idle service takes 150 MB, the settings above allow 312 MiB, what bodies are parsed into and
the allocator's own the rest."""
_MAX_HEALTH_SECONDS = 0.2
_ANSWER_SECONDS = 60.0
_SHOWN_BYTES = 1 << 16
_N_SLOWEST = 5
_ROLES = frozenset(role.value for role in Role)
_LEAKS = re.compile(
    rb"SQLSTATE|asyncpg|Traceback|pydantic|violates|DETAIL:|relation \"|psycopg|site-packages"
    rb"|invalid byte sequence|index row"
)


def max_health_seconds() -> float:
    """What `/-/healthy` may take: longer where more processes want to run than there are cores."""
    return _MAX_HEALTH_SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Request:
    """A request as bytes for the wire; `name` says in a failure which it was."""

    name: str
    head: bytes
    body: bytes = b""

    @classmethod
    def of(
        cls,
        method: str,
        target: str,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        name: str = "",
        *,
        ends: bool = True,
        tenant: str = "attacked",
    ) -> "Request":
        """A well-formed request of one tenant, which ends its connection unless told otherwise."""
        closing = (("Connection", "close"),) if ends else ()
        fields = [("Host", "x"), *closing, ("X-Scope-OrgID", tenant), *headers]
        if body or method in ("POST", "PUT", "PATCH"):
            fields.append(("Content-Length", str(len(body))))
        lines = [f"{method} {target} HTTP/1.1", *(f"{key}: {value}" for key, value in fields)]
        head = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass")
        return cls(name or f"{method} {target[:200]}", head, body)


@dataclass(frozen=True, slots=True)
class Answer:
    """The status, the head and the beginning of the body; status 0 when there was none."""

    status: int
    head: bytes
    body: bytes

    @property
    def is_off(self) -> bool:
        """Whether an API is off; Prometheus answers 500 to that as well."""
        return self.status == 500 and b"admin APIs disabled" in self.body

    @property
    def fault(self) -> str:
        """What no client may be answered, nothing when all is well."""
        if self.is_off:
            return ""
        is_overload = b"retry-after" in self.head.lower() or b"query timed out" in self.body
        if self.status >= 500 and not (self.status == 503 and is_overload):
            return f"status {self.status}: {self.body[:300]!r}"
        if found := _LEAKS.search(self.body):
            return f"says {found.group()!r}: {self.body[:300]!r}"
        return ""


@dataclass
class AttackedService:
    """A running service under watch."""

    program: RunningProgram
    watch_log: Path
    credentials: Sequence[str] = ("",)
    """What clients may send as `Authorization`; an empty one is none."""
    answers: dict[int, int] = field(default_factory=dict)
    n_as_prometheus: int = 0
    """The answers 500 of APIs that are off, which are also Prometheus'."""
    slowest: list[tuple[float, str]] = field(default_factory=list)
    """The requests that took longest, in seconds."""
    cut: list[bytes] = field(default_factory=list)
    """The heads of some requests whose connection was closed without an answer."""

    def channel(self) -> Channel:
        """A connection that stays."""
        host, port = self.program.url.removeprefix("http://").split(":")
        return Channel(host, int(port), _ANSWER_SECONDS)

    def note(self, request: Request, raw: Raw | None) -> Answer:
        """Count an answer, or that there was none."""
        answer = Answer(0, b"", b"") if raw is None else Answer(raw.status, raw.head, raw.body)
        self.answers[answer.status] = self.answers.get(answer.status, 0) + 1
        self.n_as_prometheus += answer.is_off
        if raw is None and len(self.cut) < _N_SLOWEST:
            self.cut.append(request.head[:300])
        if raw is not None:
            all_of_them = [*self.slowest, (raw.seconds, request.name)]
            self.slowest = sorted(all_of_them, reverse=True)[:_N_SLOWEST]
        return answer

    async def send(self, request: Request) -> Answer:
        """The answer to a request; the connection may be cut while the body is being sent."""
        host, port = self.program.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 22)
        sending = asyncio.create_task(_send(writer, request))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await _read_answer(reader)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()
        self.answers[answer.status] = self.answers.get(answer.status, 0) + 1
        return answer

    def worst_health_seconds(self, since: float) -> float:
        """The longest that `/-/healthy` took of what was asked since a time."""
        lines = (line.split() for line in self.watch_log.read_text().splitlines()[:-1])
        return max((float(took) for asked, took in lines if float(asked) >= since), default=0.0)

    @property
    def n_answers(self) -> int:
        """How many requests were sent."""
        return sum(self.answers.values())

    @property
    def resident_bytes(self) -> int:
        """Memory of the service now."""
        return self._status("VmRSS")

    @property
    def peak_resident_bytes(self) -> int:
        """The most it ever was."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.program.process.pid}/status").read_text()
        return int(text.partition(f"{name}:")[2].split()[0]) * 1024


def make_credentials(database_url: str) -> tuple[str, ...]:
    """A token of each role, tokens of another tenant and of all, and what is no token."""
    texts = {role.value: new_token_text() for role in Role}
    texts |= {name: new_token_text() for name in ("stranger", "all", "revoked")}
    # In a thread, as the caller may have an event loop.
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, _store_tokens(database_url, texts)).result()
    basic = base64.b64encode(f"hostile:{texts['read']}".encode()).decode()
    bearers = (f"Bearer {text}" for text in (*texts.values(), "promcompat_no"))
    return ("", *bearers, f"Basic {basic}", "Basic ?", "Token x", "Bearer eyJhbGciOiJub25lIn0.e30.")


async def _store_tokens(database_url: str, texts: dict[str, str]) -> None:
    """Straight into the table: a command for each would take a second each."""
    tenants = {"stranger": ["stranger"], "all": None}
    connection = await asyncpg.connect(database_url)
    try:
        # Random requests revoke the tokens with the smallest ids, and hit the one that is revoked.
        for name in sorted(texts, key=lambda name: name != "revoked"):
            await connection.execute(
                "INSERT INTO promcompat.access_token"
                " (name, digest, roles, tenants, created_by, revoked_at)"
                " VALUES ($1, $2, $3, $4, 'test', CASE WHEN $1 = 'revoked' THEN now() END)",
                name,
                digest_of(texts[name]),
                [name if name in _ROLES else "admin"],
                tenants.get(name, ["hostile"]),
            )
    finally:
        await connection.close()


@contextmanager
def attacked_service(
    database_url: str, folder: Path, *, has_access: bool = False
) -> Iterator[AttackedService]:
    """A service with narrow limits, watched by another process; `has_access`: for who has a token.

    The database must have been migrated then.
    """
    watch_log = folder / "watch.log"
    credentials = make_credentials(database_url) if has_access else ("",)
    settings = {**SETTINGS, "access": "tokens" if has_access else "off"}
    with running_promcompat(database_url, folder / "service.log", **settings) as program:
        command = [sys.executable, "-m", "tests.hostile.watch", program.url]
        with watch_log.open("w") as output, subprocess.Popen(command, stdout=output) as watch:
            try:
                while not watch_log.stat().st_size:
                    time.sleep(0.05)
                yield AttackedService(program, watch_log, credentials)
            finally:
                watch.kill()


async def _send(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(request.head)
    for start in range(0, len(request.body), MEBIBYTE):
        writer.write(request.body[start : start + MEBIBYTE])
        await writer.drain()


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"" if b"text/event-stream" in head else await _read_body(reader)
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer(0, b"", b"")
    return Answer(int(head.split(b" ", 2)[1]), head, body)


async def _read_body(reader: asyncio.StreamReader) -> bytes:
    """The beginning of the body; the rest is read and thrown away."""
    shown = b""
    while chunk := await reader.read(_SHOWN_BYTES):
        shown += chunk[: _SHOWN_BYTES - len(shown)]
    return shown
