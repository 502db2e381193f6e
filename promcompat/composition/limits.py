"""The limits of tenants, from the settings, the file and the database."""

from promcompat.configuration.settings import Settings
from promcompat.core.limits.limit_definitions import LIMITS
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits
from promcompat.limits.current_limits import CurrentLimits
from promcompat.limits.override_file import OverrideFile
from sql.database.database import Database
from sql.repositories.override_repository import PostgresLimitOverrides


def tenant_limits(settings: Settings) -> TenantLimits:
    """The limits of tenants without overrides."""
    return TenantLimits(**{limit.name: getattr(settings, limit.setting) for limit in LIMITS})


def same_limits(settings: Settings) -> Limits:
    """The limits of the settings for every tenant: what commands work with."""
    return Limits(SameLimits(tenant_limits(settings)))


def current_limits(settings: Settings) -> CurrentLimits:
    """Limits with the overrides of the file. Raises BadDataError when it cannot be used."""
    current = CurrentLimits(tenant_limits(settings), OverrideFile(settings.limits_file))
    current.load_file()
    return current


async def stored_limits(settings: Settings, database: Database) -> CurrentLimits:
    """Limits with all overrides as they are now.

    Raises BadDataError and StorageUnavailableError.
    """
    current = current_limits(settings)
    await current.refresh(PostgresLimitOverrides(database))
    return current
