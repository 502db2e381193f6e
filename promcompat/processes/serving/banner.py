"""What a person reads when the service is up."""

import logging
import os
import sys
from typing import Final

from promcompat.configuration.settings import TENANT_HEADER, Settings
from promcompat.configuration.text import hide_password
from promcompat.processes.sql_shell import sql_hint
from promcompat.version import PROMETHEUS_VERSION, promcompat_version

_LOGGER = logging.getLogger(__name__)


def print_banner(settings: Settings, base_url: str, database: str) -> None:
    """Print the banner to standard output, if that can be written.

    A service does not end because the disk of its log is full, or nobody reads what it prints.
    """
    try:
        sys.stdout.write(render_banner(settings, base_url, database))
        sys.stdout.flush()
    except OSError as exc:
        _LOGGER.warning("the banner cannot be printed", extra={"reason": exc.strerror})
        # What it still holds would fail again at the end, and change the exit code.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


_ACCESS: Final = {
    "off": "off (everybody who reaches this address may do everything)",
    "tokens": "tokens; the first one: promcompat token create NAME --role admin --all-tenants",
    "gateway": "gateway (everybody who reaches this address; a gateway has checked them)",
}


def render_banner(settings: Settings, base_url: str, database: str) -> str:
    """Where the service listens, which database it uses, and how to point programs at it."""
    tenancy = (
        "single (everything belongs to the tenant `default`)"
        if settings.tenancy == "single"
        else f"header ({TENANT_HEADER} names the tenant of each request)"
    )
    where = (
        f"own, in {settings.data_dir}"
        if settings.database_url is None
        else hide_password(settings.database_url)
    )
    retention = (
        f"samples are kept for {settings.retention_days} days (PROMCOMPAT_RETENTION_DAYS)"
        if settings.retention_days
        else "samples are kept forever (PROMCOMPAT_RETENTION_DAYS=0)"
    )
    if settings.rollup_retention_days is not None:
        days = settings.rollup_retention_days
        retention += (
            f", rollups for {days} days" if days else ", rollups forever"
        ) + " (PROMCOMPAT_ROLLUP_RETENTION_DAYS)"
    return f"""
promcompat {promcompat_version()} is ready, compatible with Prometheus {PROMETHEUS_VERSION}
  listening   {base_url}
  database    {database}
              {where}
  retention   {retention}
  tenancy     {tenancy}
  access      {_ACCESS[settings.access]}
  workers     {settings.workers}

Page, for a browser       {base_url}
Prometheus or vmagent     remote_write:
                            - url: {base_url}/api/v1/write
Grafana                   data source of type Prometheus, URL {base_url}
SQL (psql)                {sql_hint(settings)}
Health, service metrics   {base_url}/-/ready   {base_url}/metrics

"""
