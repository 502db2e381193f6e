"""Which stores the faults are made on."""

from typing import Final

STORES: Final = ("blocks", "rows")
SHORT: Final = "blocks"
"""The store of those tests that start services of their own; `make chaos` takes either."""
