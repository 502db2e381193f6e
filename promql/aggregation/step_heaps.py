"""Bounded heaps, one per group and step, that all take their next sample at once.

`topk` keeps a heap per group and step. How a binary heap moves its elements decides which of
several equal samples stay, so the moves are those of Go's `container/heap`, made for many heaps
at once.
"""

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.numbers.value_order import Less, sorted_by_value


class StepHeaps:
    """Heaps of at most `limits` elements each: `limits` int64 [n_heaps].

    An element is a value and its row. `rows` int64 and `values` float64 are [max limit, n_heaps];
    the first `sizes[h]` elements of heap h are meaningful. Without `replacing`, a full heap ignores
    further elements.
    """

    def __init__(self, limits: IntArray, less: Less, replacing: bool = True) -> None:
        depth = int(limits.max(initial=0))
        self._less = less
        self._replacing = replacing
        self._limits = limits
        self.sizes = np.zeros(len(limits), np.int64)
        self.values = np.zeros((depth, len(limits)))
        self.rows = np.zeros((depth, len(limits)), np.int64)

    def offer(self, rows: IntArray, values: FloatArray, offered: BoolArray) -> None:
        """Offer one element to each heap where `offered`; all arrays are [n_heaps].

        A heap that is not full takes the element. A full one replaces its first element by it if
        that comes before the new one.
        """
        growing = offered & (self.sizes < self._limits)
        full = offered & ~growing & (self._limits > 0)
        if growing.any():
            self._push(np.flatnonzero(growing), rows, values)
        if self._replacing and full.any():
            root = self.values[0]
            better = self._less(root, values) & ~np.isnan(values)
            replaced = np.flatnonzero(full & better)
            if len(replaced):
                self.values[0, replaced] = values[replaced]
                self.rows[0, replaced] = rows[replaced]
                self._sift_down(replaced)

    def _push(self, heaps: IntArray, rows: IntArray, values: FloatArray) -> None:
        place = self.sizes[heaps]
        self.values[place, heaps] = values[heaps]
        self.rows[place, heaps] = rows[heaps]
        self.sizes[heaps] += 1
        while True:
            deeper = place > 0
            heaps, place = heaps[deeper], place[deeper]
            parent = (place - 1) // 2
            up = self._less(self.values[place, heaps], self.values[parent, heaps])
            heaps, place, parent = heaps[up], place[up], parent[up]
            if not len(heaps):
                return
            self._swap(heaps, place, parent)
            place = parent

    def _sift_down(self, heaps: IntArray) -> None:
        place = np.zeros(len(heaps), np.int64)
        while True:
            child = 2 * place + 1
            inside = child < self.sizes[heaps]
            heaps, place, child = heaps[inside], place[inside], child[inside]
            if not len(heaps):
                return
            right = np.minimum(child + 1, self.sizes[heaps] - 1)
            use_right = (right > child) & self._less(
                self.values[right, heaps], self.values[child, heaps]
            )
            child = np.where(use_right, right, child)
            down = self._less(self.values[child, heaps], self.values[place, heaps])
            heaps, place, child = heaps[down], place[down], child[down]
            self._swap(heaps, place, child)
            place = child

    def _swap(self, heaps: IntArray, a: IntArray, b: IntArray) -> None:
        for column in (self.values, self.rows):
            column[a, heaps], column[b, heaps] = column[b, heaps], column[a, heaps]

    def ordered_rows(self, heap: int) -> list[int]:
        """The rows of one heap in the reverse of its order (Go's `sort.Reverse`)."""
        size = int(self.sizes[heap])
        values, rows = self.values[:size, heap], self.rows[:size, heap].tolist()
        return [rows[k] for k in sorted_by_value(values, self._less)]
