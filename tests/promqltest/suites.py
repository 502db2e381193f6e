"""Where test scripts are: our own beside this module, Prometheus' in a folder of the machine."""

import os
from pathlib import Path

_HERE = Path(__file__).parent


def shared_folder() -> Path:
    """Where material that is no part of the project lies; it may be absent."""
    configured = os.environ.get("PROMCOMPAT_SHARED_DIR")
    return Path(configured) if configured else _HERE.parents[2] / "shared"


def own_scripts() -> list[Path]:
    """The scripts of the project."""
    return sorted((_HERE / "scripts").rglob("*.test"))


def needs_delayed_name_removal(path: Path) -> bool:
    """Whether the answers of one of our scripts are those with delayed name removal."""
    return path.parent.name == "delayed_name_removal"


def needs_newer_prometheus(path: Path) -> bool:
    """Whether one of our scripts has language that the Prometheus of the tests, 3.5, has not."""
    return path.parent.name == "since_3_14"


def upstream_scripts() -> list[Path]:
    """The scripts of Prometheus, none where the folder is absent."""
    return sorted((shared_folder() / "promqltest").glob("*.test"))
