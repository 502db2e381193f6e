"""The settings of the database, and of what is stored there and held in memory of it."""

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeInt, PositiveInt, SecretStr, field_validator
from pydantic_settings import BaseSettings

from promcompat.configuration.types import DAY_MS, MEBIBYTE, DurationMs
from promcompat.core.cache_folder import home_folder


def default_data_dir() -> Path:
    """The folder for the user's data by the XDG rules; of an account without a home, in /var/lib.

    Such an account may not be able to write there: using the folder then fails, and says so.
    """
    if base := os.environ.get("XDG_DATA_HOME"):
        return Path(base) / "promcompat"
    home = home_folder()
    return Path("/var/lib") / "promcompat" if home is None else home / ".local/share/promcompat"


class StorageSettings(BaseSettings):
    """Which database, how long samples are kept there, and the memory for recent ones."""

    database_url: SecretStr | None = Field(
        None,
        description="postgresql:// URL of the database. Without it, the service installs and "
        "runs its own database in the data folder.",
    )
    migration_database_url: SecretStr | None = Field(
        None,
        description="postgresql:// URL of the same database for the role that owns the schema, "
        "if the role of PROMCOMPAT_DATABASE_URL does not own it: migrations, grants to readers and "
        "backups use this URL, and the service gets rights to rows only.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder of the service's own database, which survives restarts. Default: "
        "promcompat in $XDG_DATA_HOME or ~/.local/share; /var/lib for an account without a home.",
    )
    timescaledb: Literal["auto", "require", "off"] = Field(
        "auto",
        description="auto: use TimescaleDB where the server has it. require: refuse a server "
        "without it. off: plain PostgreSQL partitions, unless the database has the extension "
        "already, as the service's own one does. Decided when the schema is created.",
    )
    store: Literal["blocks", "rows"] | None = Field(
        None,
        description="blocks: samples are compressed blocks, and recent ones are in memory. rows: "
        "every sample is a row of the table `sample`. Default: the store of the database; for a "
        "new one blocks. promcompat migrate-store moves rows into blocks.",
    )
    chunk_interval: DurationMs = Field(
        DAY_MS,
        description="Time range of each chunk created from now on: whole days, such as 1d or 1w.",
    )
    retention_days: Annotated[int, Field(ge=0, le=365_000)] = Field(
        30,
        description="Days that samples are kept, where tenant and metric have no retention of "
        "their own. 0 keeps them forever.",
    )
    rollup_retention_days: Annotated[int, Field(ge=0, le=365_000)] | None = Field(
        None,
        description="Days that rollups are kept, where that is longer than their samples are kept. "
        "0 keeps them forever. Default: as long as samples. Store blocks only.",
    )
    coarse_rollups: bool = Field(
        False,
        description="Where samples are no longer kept, answer from rollups also what these cannot "
        "answer exactly, and say so in infos. Off: only exact answers.",
    )
    pushdown: bool = Field(
        True,
        description="Let the database compute the parts of a query that it can compute exactly, "
        "and read rollups of past days where the answer stays the same.",
    )
    head_bytes: PositiveInt = Field(
        512 * MEBIBYTE,
        description="Memory of a worker for recent samples, which are not moved into blocks or "
        "rows yet. What does not fit is read from the database when a query needs it. Drained "
        "samples that queries read lately may take a quarter as much besides, and rollups an "
        "eighth.",
    )
    series_cache_bytes: PositiveInt | None = Field(
        None,
        description="Memory of a worker for its caches of series: half for series that are "
        "written, a quarter for labels that are read, one eighth each for the series of selectors "
        "and for lists of labels. 1 GiB holds a million series that are written. Default: an "
        "eighth of the memory of the machine or container, divided by the workers, from 256 MiB "
        "to 8 GiB.",
    )
    max_undrained_bytes: Annotated[int, Field(ge=MEBIBYTE)] = Field(
        1024 * MEBIBYTE,
        description="Memory that samples which are not in blocks or rows yet may need, 16 bytes "
        "each; while there are more, writes get 503, and their senders try again.",
    )
    max_tenant_undrained_bytes: NonNegativeInt = Field(
        0,
        description="The same for the samples of one tenant, so that the others can go on. 0: "
        "three quarters of what all may need.",
    )

    @field_validator("data_dir")
    @classmethod
    def _expand_data_dir(cls, value: Path) -> Path:
        try:
            return value.expanduser()
        except RuntimeError as exc:
            raise ValueError("~ is the home folder of an account that does not exist") from exc

    @field_validator("database_url", "migration_database_url", mode="before")
    @classmethod
    def _check_database_url(cls, value: object) -> object:
        if value == "":
            return None
        if isinstance(value, str) and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        if isinstance(value, str) and not _is_readable_url(value):
            raise ValueError(
                "is not a valid URL; in a user or password, write the characters @ : / ? # [ ] % "
                "as %40 %3A %2F %3F %23 %5B %5D %25; an IPv6 address is in brackets: [::1]:5432"
            )
        return value

    @field_validator("chunk_interval")
    @classmethod
    def _check_chunk_interval(cls, value: int) -> int:
        if value < DAY_MS or value % DAY_MS:
            raise ValueError("must be a whole number of days, for example 1d")
        return value


def _is_readable_url(url: str) -> bool:
    """Whether no character of a user or password is taken for another part of the address."""
    try:
        hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
        for host in hosts:
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return "@" not in urlsplit(url).path
