"""The limits of every tenant as this process knows them: settings, then the file, then the API."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from promcompat.core.limits.limit_definitions import LimitValues
from promcompat.core.limits.tenant_limits import (
    LimitOverrideRepository,
    StoredOverrides,
    TenantLimitReader,
    TenantLimits,
)
from promcompat.limits.override_file import OverrideFile

_NONE: LimitValues = {}


class LimitSource(Enum):
    """Where a value comes from."""

    SETTING = "setting"
    FILE = "file"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class LimitValue:
    """A value in force, its source, and the value of the setting."""

    value: int
    source: LimitSource
    default: int


class CurrentLimits(TenantLimitReader):
    """A TenantLimitReader over overrides that are read again and again.

    `of` is asked for every request, so the limits of a tenant are made once for each change.
    """

    def __init__(self, defaults: TenantLimits, file: OverrideFile | None = None) -> None:
        self.defaults = defaults
        self.file = file or OverrideFile(None)
        self._stored: Mapping[str, LimitValues] = {}
        self._position = -1
        self._made: dict[str, TenantLimits] = {}

    def load_file(self) -> None:
        """Read the file at the start. Raises BadDataError when it cannot be used."""
        self.file.load()
        self._make()

    def of(self, tenant: str) -> TenantLimits:
        """See the port."""
        return self._made.get(tenant, self.defaults)

    def overrides(self, tenant: str) -> LimitValues:
        """The overrides of a tenant that are stored in the database."""
        return self._stored.get(tenant, _NONE)

    def sources(self, tenant: str) -> dict[str, LimitValue]:
        """The value of each limit in force, and where it comes from."""
        stored, of_file = self.overrides(tenant), self.file.overrides.get(tenant, _NONE)
        defaults = self.defaults.values()
        found: dict[str, LimitValue] = {}
        for name, value in self.of(tenant).values().items():
            source = LimitSource.FILE if name in of_file else LimitSource.SETTING
            source = LimitSource.OVERRIDE if name in stored else source
            found[name] = LimitValue(value, source, defaults[name])
        return found

    async def refresh(self, repository: LimitOverrideRepository) -> None:
        """Read what has changed in the file and in the database. Raises StorageUnavailableError."""
        if await self.file.refresh():
            self._make()
        position = await repository.position()
        if position != self._position:
            self._take({name: one.values for name, one in (await repository.list()).items()})
            self._position = position

    def apply(self, tenant: str, saved: StoredOverrides) -> None:
        """Use overrides that were just saved, before the next refresh finds them."""
        self._take({**self._stored, tenant: saved.values})

    def forget(self) -> None:
        """Read everything again at the next refresh: the database was set back."""
        self._position = -1

    def all_overrides(self) -> Mapping[str, LimitValues]:
        """The overrides of every tenant that has some, of the file and of the database together."""
        names = {*self.file.overrides, *self._stored}
        joined = {
            name: {**self.file.overrides.get(name, _NONE), **self.overrides(name)} for name in names
        }
        return {name: values for name, values in joined.items() if values}

    def _take(self, stored: Mapping[str, LimitValues]) -> None:
        self._stored = stored
        self._make()

    def _make(self) -> None:
        """Make the limits of tenants with overrides; those that stay the same are kept."""
        made: dict[str, TenantLimits] = {}
        for tenant, values in self.all_overrides().items():
            limits, known = self.defaults.with_overrides(values), self._made.get(tenant)
            made[tenant] = known if known is not None and known == limits else limits
        self._made = made
