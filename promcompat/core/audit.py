"""The audit trail: who asked for a change, of what, and how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

MAX_REQUEST_BYTES: Final = 4_096
"""Bytes of a request body that are kept, to tell what was changed."""
MAX_TARGET_LENGTH: Final = 1_000
KEPT_DAYS: Final = 365
MAX_RECORDS_OF_TENANT: Final = 200_000
"""Also of those that are about the whole service. A record takes 5 kB at most, usually 0.5 kB."""
MAX_RECORDS: Final = 2_000_000
BOUND_EVERY: Final = 1_000
"""Old records are removed once per this many new ones: finding them takes longer than a write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """What somebody is about to do.

    `actor` is the name of a token or of a subject of the issuer, or who a command ran as; the
    address of the client while access is not restricted. `tenant` is empty for what is about the
    whole service. `action` is a method and the path of its route, or a command; `target` the path
    with its parameters.
    """

    actor: str
    tenant: str
    action: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord(AuditEntry):
    """An entry as it is stored.

    `status` is that of the answer; None while the outcome is unknown: it is under way, or the
    process ended. `request` is the beginning of the body.
    """

    id: int
    at_ms: int
    status: int | None
    request: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which records are wanted; `tenant` None: of every tenant, `end_ms` is exclusive."""

    tenant: str | None
    actor: str | None = None
    action: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None


class AuditRepository(Protocol):
    """The audit trail of a database. Every method raises StorageUnavailableError."""

    async def begin(self, entry: AuditEntry) -> int:
        """Record what somebody is about to do, before it is done; the id of the record."""

    async def end(self, record_id: int, status: int, request: str) -> None:
        """Record how it ended, and the beginning of the body."""

    async def list(self, wanted: AuditFilter, before_id: int, limit: int) -> Sequence[AuditRecord]:
        """The newest records with a smaller id than `before_id`, newest first."""


def kept_text(body: bytes) -> str:
    """The part of a body that is kept, as text that a database can hold."""
    return (
        body[:MAX_REQUEST_BYTES].decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    )
