"""The kernel that writes pages of the sample codec; `page_kernels` has the format."""

from typing import Final

import numpy as np

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.model import FloatArray, IntArray
from sql.samples.codec.column_kernels import Bytes
from sql.samples.codec.column_writing_kernels import (
    DICTIONARY_SIZE,
    WritingWork,
    bit_length,
    put_integers,
    put_number,
    put_values,
)
from sql.samples.codec.page_kernels import DICTIONARY_VERSION, SAME_TIMES, VERSION, checksum

Batch = tuple[IntArray, IntArray, IntArray, FloatArray, IntArray]
"""Ids, offsets, times, values and their bits."""

SERIES_BYTES: Final = 128
SAMPLE_BYTES: Final = 32
"""The worst case of a page: so many bytes for each series and sample, and as many for the page."""
_GROUP: Final = 256
"""Samples of a section of many series."""
_FEW: Final = 16
"""Series of fewer samples each are never tried with sections of their own: the pages of most are
as small in groups, and are written in half the time or less."""
_MANY: Final = 32
"""Series of so many samples each always have sections of their own."""


@kernel()
def has_times_of(times: IntArray, begin: int, other: int, n: int) -> bool:
    for i in range(n):  # noqa: SIM110 - numba has no generators
        if times[begin + i] != times[other + i]:
            return False
    return True


@kernel()
def put_section(
    batch: Batch, begin: int, n: int, is_same: bool, out: Bytes, position: int, work: WritingWork
) -> int:
    """Write a column of times, or that they are the same as before, and one of values."""
    _, _, times, values, bits = batch
    numbers = work[0]
    if is_same:
        position = put_number(out, position, SAME_TIMES, 1)
    else:
        for i in range(n):
            numbers[i] = times[begin + i]
        position = put_integers(numbers, n, out, position, work)
    return put_values(values, bits, begin, n, out, position, work)


@kernel()
def put_sections(
    batch: Batch,
    first: int,
    behind: int,
    group: int,
    layout: int,
    directories: IntArray,
    bodies: Bytes,
    work: WritingWork,
) -> tuple[int, int]:
    """Write the sections of series `first` to `behind`, of at least `group` samples each.

    Fills the `directories` of the layout with the series and bytes of each, and its body; returns
    `(sections, bytes)`.
    """
    offsets, times = batch[1], batch[2]
    out = bodies[layout]
    n_sections, position = 0, signed(0)
    series, last, last_n = first, signed(0), signed(0)
    while series < behind:
        begin, section_first, section_begin = offsets[series], series, position
        while series < behind and (offsets[series] - begin < group or series == section_first):
            series += 1
        n = offsets[series] - begin
        is_same = last_n == n and has_times_of(times, begin, last, n)
        position = put_section(batch, begin, n, is_same, out, position, work)
        last, last_n = begin, n
        directories[layout, 0, n_sections] = series - section_first
        directories[layout, 1, n_sections] = position - section_begin
        n_sections += 1
    return n_sections, position


@kernel()
def put_page(
    batch: Batch,
    first: int,
    behind: int,
    n_sections: int,
    version: int,
    directory: IntArray,
    out: Bytes,
    begin: int,
    work: WritingWork,
) -> int:
    """Write what stands before the sections; the position behind it."""
    ids, offsets = batch[0], batch[1]
    numbers = work[0]
    n_series, n_samples = behind - first, offsets[behind] - offsets[first]
    put_number(out, begin, version, 1)
    position, lengths = begin + 6, 0
    for k in range(3):
        number = n_samples if k == 0 else (n_series if k == 1 else n_sections)
        n_bytes = (bit_length(np.uint64(number)) + 7) >> 3
        position = put_number(out, position, number, n_bytes)
        lengths |= (n_bytes - 1) << (2 * k)
    put_number(out, begin + 5, lengths, 1)
    for column in range(4):
        n = n_series if column < 2 else n_sections
        total = n_samples if column == 1 else n_series
        if ((column == 1 or column == 2) and (n == 1 or n == total)) or (column == 3 and n == 1):
            continue
        for i in range(n):
            if column == 0:
                numbers[i] = ids[first + i]
            elif column == 1:
                numbers[i] = offsets[first + i + 1] - offsets[first + i]
            else:
                numbers[i] = directory[column - 2, i]
        position = put_integers(numbers, n, out, position, work)
    return position


@kernel()
def choose_layout(
    batch: Batch, first: int, behind: int, directories: IntArray, bodies: Bytes, work: WritingWork
) -> tuple[int, int, int, int]:
    """Write the sections one series each, in groups, or both.

    Returns `(the smaller, sections, bytes, version of the page)`.
    """
    offsets = batch[1]
    n_series, n_samples = behind - first, offsets[behind] - offsets[first]
    best, n_sections, n_bytes, version = 0, signed(0), signed(0), signed(VERSION)
    n_dictionaries = work[4][DICTIONARY_SIZE - 1 :]
    for layout in range(2):
        if layout == 0 and n_samples < _FEW * n_series and n_series > 1:
            continue
        if layout == 1 and (n_series == 1 or n_samples >= _MANY * n_series):
            continue
        n_dictionaries[0] = 0
        sections, size = put_sections(
            batch, first, behind, _GROUP if layout else 1, layout, directories, bodies, work
        )
        if n_sections == 0 or size + sections * 2 < n_bytes + n_sections * 2:
            best, n_sections, n_bytes = layout, sections, size
            version = signed(DICTIONARY_VERSION if n_dictionaries[0] else VERSION)
    return best, n_sections, n_bytes, version


@kernel(
    "void(i8[::1], i8[::1], i8[::1], f8[::1], i8[::1], i8[::1], i8, i8, u1[::1], i8[::1])",
)
def write_pages(
    ids: IntArray,
    offsets: IntArray,
    times: IntArray,
    values: FloatArray,
    bits: IntArray,
    pages: IntArray,
    most_series: int,
    most_samples: int,
    out: Bytes,
    ends: IntArray,
) -> None:
    """Write pages one behind the other: page `k` has the series `pages[k]` to `pages[k + 1]`.

    `bits` is a view of `values`; `most_…` are the numbers of the largest page. `out` has room for
    the worst case; `ends[k + 1]` is set to the end of page `k`.
    """
    work = (
        np.empty(most_samples, np.int64), np.empty(most_samples, np.int64),
        np.empty(most_samples, np.uint64), np.empty(65, np.int64),
        np.empty(DICTIONARY_SIZE, np.int64),
    )  # fmt: skip
    capacity = SERIES_BYTES * most_series + SAMPLE_BYTES * most_samples
    bodies = np.empty((2, capacity), np.uint8)
    directories = np.empty((2, 2, most_series), np.int64)
    batch = (ids, offsets, times, values, bits)
    for k in range(len(pages) - 1):
        first, behind = pages[k], pages[k + 1]
        best, n_sections, n_bytes, version = choose_layout(
            batch, first, behind, directories, bodies, work
        )
        begin = ends[k]
        position = put_page(
            batch, first, behind, n_sections, version, directories[best], out, begin, work
        )
        for i in range(n_bytes):
            out[position + i] = bodies[best, i]
        position += n_bytes
        put_number(out, begin + 1, checksum(out, begin, position), 4)
        ends[k + 1] = position
