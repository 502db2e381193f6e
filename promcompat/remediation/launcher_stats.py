"""What launchers count."""

from dataclasses import dataclass


@dataclass(slots=True)
class LauncherStats:
    """Totals since the start, and whether the last call reached Temporal (0 or 1)."""

    started: int = 0
    already_started: int = 0
    unavailable: int = 0
    refused: int = 0
    is_reachable: int = 0
