"""Tokens in memory, as the repository in PostgreSQL keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from promcompat.core.access import NewToken, Token
from promcompat.core.audit import AuditEntry, AuditFilter, AuditRecord
from promcompat.core.errors import ConflictError, StorageUnavailableError


class InMemoryTokens:
    """A TokenRepository; `is_away` makes it fail as a database that is away."""

    def __init__(self) -> None:
        self.is_away = False
        self._version = 0
        self._tokens: dict[bytes, Token] = {}

    async def version(self) -> int:
        if self.is_away:
            raise StorageUnavailableError("the database is away")
        return self._version

    async def by_digest(self) -> Mapping[bytes, Token]:
        await self.version()
        return dict(self._tokens)

    async def create(self, new: NewToken, max_tokens: int) -> Token:
        await self.version()
        names = {token.name for token in self._tokens.values()}
        if new.name in names or len(names) >= max_tokens:
            raise ConflictError("the name is taken, or there are too many tokens")
        self._version += 1
        token = Token(
            id=self._version,
            name=new.name,
            roles=new.roles,
            tenants=new.tenants,
            created_by=new.created_by,
            created_at_ms=0,
            expires_at_ms=new.expires_at_ms,
        )
        self._tokens[new.digest] = token
        return token

    async def revoke(self, token_id: int, revoked_by: str) -> bool:
        await self.version()
        before = len(self._tokens)
        self._tokens = {key: one for key, one in self._tokens.items() if one.id != token_id}
        self._version += 1
        return len(self._tokens) < before

    async def note_uses(self, used_at_ms: Mapping[int, int]) -> None:
        await self.version()


class InMemoryAudit:
    """An audit trail without times."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []

    async def begin(self, entry: AuditEntry) -> int:
        record_id = len(self.records) + 1
        record = AuditRecord(**asdict(entry), id=record_id, at_ms=0, status=None, request="")
        self.records.append(record)
        return record_id

    async def end(self, record_id: int, status: int, request: str) -> None:
        record = self.records[record_id - 1]
        self.records[record_id - 1] = replace(record, status=status, request=request)

    async def list(self, wanted: AuditFilter, before_id: int, limit: int) -> Sequence[AuditRecord]:
        of_tenant = (one for one in self.records if wanted.tenant in (None, one.tenant))
        return [one for one in reversed(list(of_tenant)) if one.id < before_id][:limit]
