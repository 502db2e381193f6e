"""The order in which Go's `sort.Sort` and `slices.SortFunc` leave elements that compare equal.

Both are a pattern-defeating quicksort (Orson Peters, https://arxiv.org/abs/2106.05123): up to
twelve elements go through an insertion sort, which is stable; beyond, where equals end up depends
on the pivots. A comparison that contradicts itself, as that of NaN does, ends in an order of its
own too. Each element costs some comparisons in Python: for answers, not for samples.

Source of the method's constants: Go's `src/sort/zsortfunc.go`.
"""

from collections.abc import Callable
from enum import Enum, auto

Less = Callable[[int, int], bool]
"""Whether the first of two elements, told by number, comes before the second."""

_INSERTION_LIMIT = 12
_NINTHER_FROM = 50
_SHIFT_FROM = 50
_MAX_SHIFTS = 5
_MAX_SWAPS = 12
_WORD = (1 << 64) - 1


def go_sorted(n_elements: int, less: Less) -> list[int]:
    """The numbers 0 … n - 1 in the order Go leaves them in."""
    sorting = _Sorting(n_elements, less)
    sorting.sort(0, n_elements, n_elements.bit_length())
    return sorting.order


class _Pattern(Enum):
    INCREASING = auto()
    DECREASING = auto()
    UNKNOWN = auto()


class _Sorting:
    """One run: `order` holds the elements; all methods work on places in it, `end` excluded."""

    def __init__(self, n_elements: int, less: Less) -> None:
        self.order = list(range(n_elements))
        self._less_elements = less

    def _less(self, a: int, b: int) -> bool:
        return self._less_elements(self.order[a], self.order[b])

    def _swap(self, a: int, b: int) -> None:
        self.order[a], self.order[b] = self.order[b], self.order[a]

    def sort(self, start: int, end: int, bad_pivots_left: int) -> None:
        """Sort a stretch; after as many bad pivots as are left by the heap."""
        was_balanced = was_partitioned = True
        while end - start > _INSERTION_LIMIT:
            length = end - start
            if bad_pivots_left == 0:
                self._heap_sort(start, end)
                return
            if not was_balanced:
                self._break_patterns(start, end)
                bad_pivots_left -= 1
            pivot, pattern = self._choose_pivot(start, end)
            if pattern is _Pattern.DECREASING:
                self.order[start:end] = self.order[start:end][::-1]
                pivot, pattern = (end - 1) - (pivot - start), _Pattern.INCREASING
            may_be_sorted = was_balanced and was_partitioned and pattern is _Pattern.INCREASING
            if may_be_sorted and self._shift_few(start, end):
                return
            if start > 0 and not self._less(start - 1, pivot):
                start = self._partition_equal(start, end, pivot)
                continue
            middle, was_partitioned = self._partition(start, end, pivot)
            shorter = min(middle - start, end - middle)
            was_balanced = shorter >= length // 8
            if middle - start < end - middle:
                self.sort(start, middle, bad_pivots_left)
                start = middle + 1
            else:
                self.sort(middle + 1, end, bad_pivots_left)
                end = middle
        self._insertion_sort(start, end)

    def _insertion_sort(self, start: int, end: int) -> None:
        for place in range(start + 1, end):
            while place > start and self._less(place, place - 1):
                self._swap(place, place - 1)
                place -= 1

    def _heap_sort(self, start: int, end: int) -> None:
        length = end - start
        for root in range((length - 1) // 2, -1, -1):
            self._sift_down(root, length, start)
        for last in range(length - 1, -1, -1):
            self._swap(start, start + last)
            self._sift_down(0, last, start)

    def _sift_down(self, root: int, length: int, start: int) -> None:
        while (child := 2 * root + 1) < length:
            if child + 1 < length and self._less(start + child, start + child + 1):
                child += 1
            if not self._less(start + root, start + child):
                return
            self._swap(start + root, start + child)
            root = child

    def _break_patterns(self, start: int, end: int) -> None:
        """Exchange three elements of the middle with others, chosen by the length alone."""
        length = end - start
        mask = (1 << length.bit_length()) - 1
        random = length
        middle = start + length // 4 * 2
        for place in range(middle - 1, middle + 2):
            random ^= random << 13 & _WORD
            random ^= random >> 7
            random ^= random << 17 & _WORD
            other = random & mask
            self._swap(place, start + (other - length if other >= length else other))

    def _choose_pivot(self, start: int, end: int) -> tuple[int, _Pattern]:
        """The median of three elements, or of the medians of three times three neighbours."""
        length = end - start
        places = [start + length // 4 * quarter for quarter in (1, 2, 3)]
        swaps = 0
        if length >= _NINTHER_FROM:
            for index, place in enumerate(places):
                places[index], more = self._median(place - 1, place, place + 1)
                swaps += more
        pivot, more = self._median(*places)
        swaps += more
        if swaps == 0:
            return pivot, _Pattern.INCREASING
        return pivot, _Pattern.DECREASING if swaps == _MAX_SWAPS else _Pattern.UNKNOWN

    def _median(self, a: int, b: int, c: int) -> tuple[int, int]:
        """The place of the median, and how many of three comparisons found a wrong order."""
        swaps = 0
        if self._less(b, a):
            a, b, swaps = b, a, swaps + 1
        if self._less(c, b):
            b, c, swaps = c, b, swaps + 1
        if self._less(b, a):
            a, b, swaps = b, a, swaps + 1
        return b, swaps

    def _partition_equal(self, start: int, end: int, pivot: int) -> int:
        """Put what equals the pivot first; nothing is less. The place behind is returned."""
        self._swap(start, pivot)
        left, right = start + 1, end - 1
        while True:
            while left <= right and not self._less(start, left):
                left += 1
            while left <= right and self._less(start, right):
                right -= 1
            if left > right:
                return left
            self._swap(left, right)
            left, right = left + 1, right - 1

    def _partition(self, start: int, end: int, pivot: int) -> tuple[int, bool]:
        """Put what is less than the pivot before it: its place, and whether all was so already."""
        self._swap(start, pivot)
        left, right = start + 1, end - 1
        was_partitioned = True
        while True:
            while left <= right and self._less(left, start):
                left += 1
            while left <= right and not self._less(right, start):
                right -= 1
            if left > right:
                self._swap(right, start)
                return right, was_partitioned
            was_partitioned = False
            self._swap(left, right)
            left, right = left + 1, right - 1

    def _shift_few(self, start: int, end: int) -> bool:
        """Move a few elements that stand wrong; whether all is sorted then."""
        place = start + 1
        for _ in range(_MAX_SHIFTS):
            while place < end and not self._less(place, place - 1):
                place += 1
            if place == end:
                return True
            if end - start < _SHIFT_FROM:
                return False
            self._swap(place, place - 1)
            if place - start >= 2:
                # Go on to the very first element, as Go does, not to the start of the stretch.
                self._shift(place - 1, 0, -1)
            if end - place >= 2:
                self._shift(place + 1, end, 1)
        return False

    def _shift(self, place: int, bound: int, direction: int) -> None:
        while place != bound and self._less(place, place - 1):
            self._swap(place, place - 1)
            place += direction
