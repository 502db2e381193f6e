"""The kernel that writes pages of the sample codec; `codec_kernels` has the format."""

from typing import Final

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import FloatArray, IntArray
from sql.samples.codec_kernels import SAME_TIMES, VERSION, checksum
from sql.samples.column_kernels import Bytes, signed
from sql.samples.column_writing_kernels import (
    WritingWork,
    bit_length,
    put_integers,
    put_number,
    put_values,
)

Batch = tuple[IntArray, IntArray, IntArray, FloatArray, IntArray]
"""Ids, offsets, times, values and their bits."""

SERIES_BYTES: Final = 128
SAMPLE_BYTES: Final = 32
"""The worst case of a page: so many bytes for each series and sample, and as many for the page."""
_GROUP: Final = 256
"""Samples of a section of many series."""
_MANY: Final = 32
"""Series of so many samples each always have sections of their own."""


@kernel()
def has_times_of(times: IntArray, begin: int, other: int, n: int) -> bool:
    for i in range(n):  # noqa: SIM110 - numba has no generators
        if times[begin + i] != times[other + i]:
            return False
    return True


@kernel()
def put_sections(
    batch: Batch,
    first: int,
    behind: int,
    group: int,
    directory: IntArray,
    out: Bytes,
    work: WritingWork,
) -> tuple[int, int]:
    """Write the sections of series `first` to `behind`, of at least `group` samples each.

    Fills `directory` with the series and bytes of each; returns `(sections, bytes)`.
    """
    _, offsets, times, values, bits = batch
    numbers = work[0]
    n_sections, position = 0, signed(0)
    series, last, last_n = first, signed(-1), signed(0)
    while series < behind:
        begin, section_first, section_begin = offsets[series], series, position
        while series < behind and (offsets[series] - begin < group or series == section_first):
            series += 1
        n = offsets[series] - begin
        if last_n == n and has_times_of(times, begin, last, n):
            out[position] = SAME_TIMES
            position += 1
        else:
            numbers[:n] = times[begin : begin + n]
            position = put_integers(numbers, n, out, position, work)
        last, last_n = begin, n
        position = put_values(values, bits, begin, n, out, position, work)
        directory[0, n_sections] = series - section_first
        directory[1, n_sections] = position - section_begin
        n_sections += 1
    return n_sections, position


@kernel()
def unsigned_bytes(number: int) -> int:
    """How many bytes a positive number takes."""
    return (bit_length(np.uint64(number)) + 7) >> 3


@kernel()
def put_counts(
    counts: IntArray, n: int, total: int, out: Bytes, position: int, work: WritingWork
) -> int:
    """Write counts, unless they follow from the total; changes them."""
    if n == 1 or n == total:
        return position
    return put_integers(counts, n, out, position, work)


@kernel()
def put_page(
    batch: Batch,
    first: int,
    behind: int,
    n_sections: int,
    directory: IntArray,
    out: Bytes,
    begin: int,
    work: WritingWork,
) -> int:
    """Write what stands before the sections; the position behind it."""
    ids, offsets = batch[0], batch[1]
    numbers = work[0]
    n_series, n_samples = behind - first, offsets[behind] - offsets[first]
    out[begin] = VERSION
    position, lengths = begin + 6, 0
    for k, number in enumerate((n_samples, n_series, n_sections)):
        n_bytes = unsigned_bytes(number)
        position = put_number(out, position, number, n_bytes)
        lengths |= (n_bytes - 1) << (2 * k)
    out[begin + 5] = lengths
    numbers[:n_series] = ids[first:behind]
    position = put_integers(numbers, n_series, out, position, work)
    for i in range(n_series):
        numbers[i] = offsets[first + i + 1] - offsets[first + i]
    position = put_counts(numbers, n_series, n_samples, out, position, work)
    position = put_counts(directory[0], n_sections, n_series, out, position, work)
    if n_sections > 1:
        position = put_integers(directory[1], n_sections, out, position, work)
    return position


@kernel()
def choose_layout(
    batch: Batch, first: int, behind: int, directories: IntArray, bodies: Bytes, work: WritingWork
) -> tuple[int, int, int]:
    """Write the sections one series each, in groups, or both; `(the smaller, sections, bytes)`."""
    offsets = batch[1]
    n_series, n_samples = behind - first, offsets[behind] - offsets[first]
    sections, n_bytes = signed(0), signed(0)
    if n_samples > n_series or n_series == 1:
        sections, n_bytes = put_sections(batch, first, behind, 1, directories[0], bodies[0], work)
    if n_series > 1 and n_samples < _MANY * n_series:
        groups, group_bytes = put_sections(
            batch, first, behind, _GROUP, directories[1], bodies[1], work
        )
        if sections == 0 or group_bytes + groups * 2 < n_bytes + sections * 2:
            return 1, groups, group_bytes
    return 0, sections, n_bytes


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
    )  # fmt: skip
    capacity = SERIES_BYTES * most_series + SAMPLE_BYTES * most_samples
    bodies = np.empty((2, capacity), np.uint8)
    directories = np.empty((2, 2, most_series), np.int64)
    batch = (ids, offsets, times, values, bits)
    for k in range(len(pages) - 1):
        first, behind = pages[k], pages[k + 1]
        best, n_sections, n_bytes = choose_layout(batch, first, behind, directories, bodies, work)
        begin = ends[k]
        position = put_page(batch, first, behind, n_sections, directories[best], out, begin, work)
        out[position : position + n_bytes] = bodies[best, :n_bytes]
        position += n_bytes
        put_number(out, begin + 1, checksum(out, begin, position), 4)
        ends[k + 1] = position
