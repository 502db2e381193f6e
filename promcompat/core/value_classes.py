"""Frozen dataclasses of which each query makes some: they are frozen for the type checker alone.

A frozen dataclass sets each field by a call, 0.13 µs instead of 0.02. A small query makes 40 values
with 190 fields, 3% of its time.
"""

from typing import TYPE_CHECKING

__all__ = ["value_class"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value_class
else:
    from dataclasses import dataclass

    def value_class(*, frozen: bool, slots: bool, kw_only: bool = False):
        """The decorator `dataclass`, with the hash of a frozen class, but not frozen."""
        assert frozen
        return dataclass(slots=slots, kw_only=kw_only, unsafe_hash=True)
