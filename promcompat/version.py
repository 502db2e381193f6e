"""Which promcompat this is."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

PROMETHEUS_VERSION = "3.14.0"
"""The Prometheus whose behaviour is served; clients choose features by this number."""


@cache
def promcompat_version() -> str:
    """The version of the installed distribution, `0+unknown` in a bare checkout."""
    try:
        return version("promcompat")
    except PackageNotFoundError:
        return "0+unknown"
