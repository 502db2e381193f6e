"""Which stores the faults are made on."""

from typing import Final

STORES: Final = ("rows",)
