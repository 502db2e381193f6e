"""Kernels that read pages of the sample codec.

docs/adr/0014-sample-codec.md describes the format. All numbers are little endian. A page is:

* a head: version (low 4 bits; 3 if the page has histograms, which `histogram_kernels` describes,
  else 2 if a column of values is a dictionary, else 1) and kind (high 4 bits), CRC-32 of the other
  bytes, one byte with the lengths of the next three numbers less one (2 bits each), then how many
  samples, series and sections the page has;
* integer columns: the ids of the series, their sample counts (left out if they follow from the
  numbers above), the series of each section (left out for one section, or one series a section),
  the bytes of each section (left out for one section);
* the sections. Each has the samples of consecutive series: a column of times, then one of values.

`column_kernels` has the columns. Input may be anything: every position is checked before it is
read, and counts are bounded.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.histograms.columns import HISTOGRAM_BITS
from promcompat.core.model import IntArray
from sql.samples.codec.column_kernels import (
    INCONSISTENT,
    READ_AHEAD,
    TRUNCATED,
    Bytes,
    Words,
    Work,
    get_integers,
    get_unsigned,
    get_values,
    get_word,
)
from sql.samples.columns.fold_kernels import MANY_ROWS

Head = tuple[int, int, int]
"""How many samples, series and sections a page has."""
Chosen = tuple[IntArray, bool, int, int]
"""Wanted series and whether all are, and the bounds of times: after the first, up to the second."""
Found = tuple[IntArray, IntArray, IntArray, IntArray]
"""Ids, ends of series, times and value bits."""
SectionPlace = tuple[int, int, int, int, int]
Source = tuple[int, int, bool]


VERSION: Final = 1
DICTIONARY_VERSION: Final = 2
"""Of pages with a dictionary, which earlier releases do not know."""
HISTOGRAM_VERSION: Final = 3
"""Of pages with histograms, which earlier releases do not know."""
SECTION_SIZE_BYTES: Final = 4
"""The end of a page with histograms: the bytes of the section before it."""
MAX_SAMPLES: Final = 65_536
"""Of one page. What a page claims to hold is allocated, so this bounds 20 bytes to 1 MB."""
SAME_TIMES: Final = 255
"""Instead of a column of times: those of the section before."""
MIN_MS: Final = -62_135_596_800_000
"""The first and last millisecond of the years 1 to 9999."""
MAX_MS: Final = 253_402_300_799_999

NOT_A_PAGE: Final = -2
BAD_CHECKSUM: Final = -3
OUT_OF_TIME: Final = -5


def _crc_tables() -> NDArray[np.uint32]:
    """Row `k` has the CRC of each byte that `k` bytes of 0 follow."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1)
    rows = [table.astype(np.uint32)]
    for _ in range(7):
        rows.append((rows[-1] >> 8) ^ rows[0][rows[-1] & 255])
    return np.array(rows, np.uint32)


_CRC: Final = _crc_tables()


@kernel()
def crc_of_byte(crc: np.uint32, byte: np.uint8) -> np.uint32:
    """The CRC after one more byte."""
    of_byte = np.uint32(_CRC[0, (crc ^ np.uint32(byte)) & np.uint32(255)])
    return (crc >> np.uint32(8)) ^ of_byte


@kernel()
def checksum(page: Bytes, begin: int, end: int) -> int:
    """CRC-32 of a page without the four bytes that hold it; of 8 bytes at a time."""
    crc = crc_of_byte(np.uint32(0xFFFF_FFFF), page[begin])
    position = begin + 5
    while position + 8 <= end:
        word = get_word(page, np.uint64(position)) ^ np.uint64(crc)
        crc = np.uint32(0)
        for k in range(8):
            crc ^= _CRC[7 - k, (word >> np.uint64(8 * k)) & np.uint64(255)]
        position += 8
    while position < end:
        crc = crc_of_byte(crc, page[position])
        position += 1
    return signed(~crc & np.uint32(0xFFFF_FFFF))


@kernel()
def get_head(page: Bytes, begin: int, end: int) -> tuple[int, int, int, int]:
    """`(position behind the head or error, samples, series, sections)`."""
    if end - begin < 9:
        return TRUNCATED, 0, 0, 0
    if not VERSION <= page[begin] <= HISTOGRAM_VERSION:
        return NOT_A_PAGE, 0, 0, 0
    lengths = signed(page[begin + 5])
    position = begin + 6
    first, second, third = (lengths & 3) + 1, ((lengths >> 2) & 3) + 1, ((lengths >> 4) & 3) + 1
    if first + second + third > end - position or lengths >> 6:
        return TRUNCATED, 0, 0, 0
    n_samples = signed(get_unsigned(page, position, first))
    position += first
    n_series = signed(get_unsigned(page, position, second))
    position += second
    n_sections = signed(get_unsigned(page, position, third))
    position += third
    if not (1 <= n_sections <= n_series <= n_samples <= MAX_SAMPLES):
        return INCONSISTENT, 0, 0, 0
    return position, n_samples, n_series, n_sections


@kernel()
def floats_end(page: Bytes, begin: int, end: int) -> int:
    """Where the floats of a page end; an error if the page is too short for its histograms."""
    if end - begin < 9 or page[begin] != HISTOGRAM_VERSION:
        return end
    size = signed(get_unsigned(page, end - SECTION_SIZE_BYTES, SECTION_SIZE_BYTES))
    behind = end - SECTION_SIZE_BYTES - size
    return behind if behind > begin else TRUNCATED


@kernel()
def number_cells(bits: IntArray, n: int, n_before: IntArray) -> bool:
    """Number the cells of histograms on from those before; False if one has a number already."""
    number = n_before[0]
    for i in range(n):
        if bits[i] >> signed(40) == HISTOGRAM_BITS >> 40:
            if bits[i] != HISTOGRAM_BITS:
                return False
            bits[i] |= number
            number += 1
    n_before[0] = number
    return True


@kernel()
def is_counted(numbers: IntArray, n: int, total: int) -> bool:
    """Whether `n` numbers are positive and add up to a total of at most `MAX_SAMPLES`."""
    left = total
    for i in range(n):
        if numbers[i] < 1 or numbers[i] > left:
            return False
        left -= numbers[i]
    return left == 0


@kernel()
def get_counts(
    page: Bytes, position: int, end: int, n: int, total: int, counts: IntArray, residuals: Words
) -> int:
    """Read `n` positive counts that add up to a total; left out if there is only one way."""
    if n == 1 or n == total:
        for i in range(n):
            counts[i] = total if n == 1 else signed(1)
        return position
    position = get_integers(page, position, end, n, counts, residuals)
    if position >= 0 and not is_counted(counts, n, total):
        return INCONSISTENT
    return position


@kernel()
def get_directory(page: Bytes, position: int, end: int, head: Head, work: Work) -> int:
    """Read what stands before the sections; the position of the first one, or an error."""
    n_samples, n_series, n_sections = head
    ids, counts, section_series, section_bytes, residuals = (
        work[0], work[1], work[2], work[3], work[6],
    )  # fmt: skip
    position = get_integers(page, position, end, n_series, ids, residuals)
    if position < 0:
        return position
    for i in range(1, n_series):
        if ids[i] <= ids[i - 1]:
            return INCONSISTENT
    position = get_counts(page, position, end, n_series, n_samples, counts, residuals)
    if position < 0:
        return position
    position = get_counts(page, position, end, n_sections, n_series, section_series, residuals)
    if position < 0:
        return position
    if n_sections == 1:
        if position >= end:
            return TRUNCATED
        section_bytes[0] = end - position
        return position
    position = get_integers(page, position, end, n_sections, section_bytes, residuals)
    if position >= 0 and not is_counted(section_bytes, n_sections, end - position):
        return INCONSISTENT
    return position


@kernel()
def first_of(numbers: IntArray, begin: int, end: int, bound: int) -> int:
    """The first place from `begin` to `end` whose number is not smaller."""
    while begin < end:
        middle = (begin + end) >> 1
        if numbers[middle] < bound:
            begin = middle + 1
        else:
            end = middle
    return begin


@kernel()
def is_ordered(times: IntArray, counts: IntArray, first: int, behind: int) -> bool:
    """Whether the times of each series ascend, within the years 1 to 9999."""
    row = signed(0)
    for series in range(first, behind):
        of_series = times[row : row + counts[series]]
        # Without a way out the compiler uses vectors.
        n_steps_back = 0
        for i in range(1, len(of_series)):
            n_steps_back += of_series[i] <= of_series[i - 1]
        if n_steps_back or of_series[0] < MIN_MS or of_series[-1] > MAX_MS:
            return False
        row += counts[series]
    return True


@kernel()
def is_wanted(wanted: IntArray, number: int) -> bool:
    place = first_of(wanted, 0, len(wanted), number)
    return place < len(wanted) and wanted[place] == number


@kernel()
def append_chosen(
    first: int,
    behind: int,
    chosen: Chosen,
    work: Work,
    found: Found,
    found_series: int,
    found_samples: int,
) -> tuple[int, int]:
    """Append the chosen samples of a section that was read; `(series, samples)` so far."""
    wanted, is_all, start_ms, end_ms = chosen
    ids, counts, times, bits = work[0], work[1], work[4], work[8]
    out_ids, out_ends, out_times, out_bits = found
    row = 0
    for series in range(first, behind):
        row_end = row + counts[series]
        low = first_of(times, row, row_end, start_ms + 1)
        high = first_of(times, low, row_end, end_ms + 1)
        row = row_end
        if high > low and (is_all or is_wanted(wanted, ids[series])):
            found_end = found_samples + high - low
            if high - low > MANY_ROWS:
                out_times[found_samples:found_end] = times[low:high]
                out_bits[found_samples:found_end] = bits[low:high]
            else:
                for i in range(low, high):
                    out_times[found_samples + i - low] = times[i]
                    out_bits[found_samples + i - low] = bits[i]
            found_samples = found_end
            out_ids[found_series] = ids[series]
            found_series += 1
            out_ends[found_series] = found_samples
    return found_series, found_samples


@kernel()
def get_section(page: Bytes, section: SectionPlace, source: Source, work: Work) -> int:
    """Read a section: 0, or an error.

    `section` is its first byte, end, first series, the series behind it and its samples; `source`
    where its column of times begins and what bounds it, and whether that was read before.
    """
    position, section_end, first, behind, n = section
    source_position, source_end, is_read = source
    times, residuals = work[4], work[6]
    values_at = position + 1
    if not is_read:
        times_end = get_integers(page, source_position, source_end, n, times, residuals)
        if times_end < 0:
            return times_end
        if source_position == position:
            values_at = times_end
    if not is_ordered(times, work[1], first, behind):
        return OUT_OF_TIME
    values_end = get_values(page, values_at, section_end, n, work)
    if values_end < 0:
        return values_end
    return 0 if values_end == section_end else INCONSISTENT


@kernel()
def is_any_wanted(wanted: IntArray, low: int, high: int) -> bool:
    """Whether a number from `low` to `high` is wanted."""
    place = first_of(wanted, 0, len(wanted), low)
    return place < len(wanted) and wanted[place] <= high


@kernel()
def get_page(
    page: Bytes,
    begin: int,
    end: int,
    chosen: Chosen,
    work: Work,
    found: Found,
    found_series: int,
    found_samples: int,
    n_histograms: IntArray,
) -> tuple[int, int]:
    """Append the chosen samples of a page to `found`; `(series, samples)` so far, or an error.

    `end` is that of the floats. The cells of histograms are numbered on from `n_histograms`.
    """
    ids, counts, section_series, section_bytes = work[0], work[1], work[2], work[3]
    has_histograms = page[begin] == HISTOGRAM_VERSION
    position, n_samples, n_series, n_sections = get_head(page, begin, end)
    if position < 0:
        # The floats may end within the head, which the page has room for.
        return position, found_samples
    head = (n_samples, n_series, n_sections)
    position = get_directory(page, position, end, head, work)
    if position < 0:
        return position, found_samples
    behind = signed(0)
    source, source_end, source_rows, read_source = -1, -1, signed(0), -1
    for section in range(n_sections):
        begin, position = position, position + section_bytes[section]
        first, behind = behind, behind + section_series[section]
        n = signed(0)
        for series in range(first, behind):
            n += counts[series]
        if page[begin] != SAME_TIMES:
            source, source_end, source_rows = begin, position, n
        elif source < 0 or source_rows != n:
            return INCONSISTENT, found_samples
        is_read = chosen[1] or has_histograms
        if is_read or is_any_wanted(chosen[0], ids[first], ids[behind - 1]):
            error = get_section(
                page, (begin, position, first, behind, n),
                (source, source_end, read_source == source), work,
            )  # fmt: skip
            if error:
                return error, found_samples
            read_source = source
            if has_histograms and not number_cells(work[8], n, n_histograms):
                return INCONSISTENT, found_samples
            found_series, found_samples = append_chosen(
                first, behind, chosen, work, found, found_series, found_samples
            )
    return found_series, found_samples


@kernel("UniTuple(i8, 2)(u1[::1], i8[::1], i8[:, ::1])")
def measure_pages(pages: Bytes, bounds: IntArray, sizes: IntArray) -> tuple[int, int]:
    """Check the pages `bounds[k]` to `bounds[k + 1]`; fill `sizes`.

    Of each page these are the samples, the series, and where the floats end.
    Returns `(0, 0)`, or an error and the number of its page. `READ_AHEAD` bytes follow the last
    page.
    """
    if bounds[-1] + READ_AHEAD > len(pages):
        return TRUNCATED, 0
    for k in range(len(bounds) - 1):
        begin, end = bounds[k], bounds[k + 1]
        position, n_samples, n_series, _ = get_head(pages, begin, end)
        if position < 0:
            return position, k
        if checksum(pages, begin, end) != signed(get_unsigned(pages, begin + 1, 4)):
            return BAD_CHECKSUM, k
        sizes[k, 0], sizes[k, 1], sizes[k, 2] = n_samples, n_series, floats_end(pages, begin, end)
        if sizes[k, 2] < 0:
            return TRUNCATED, k
    return 0, 0


@kernel(
    "UniTuple(i8, 2)(u1[::1], i8[::1], i8[:, ::1], i8[::1], b1, i8, i8, i8[::1], i8[::1], i8[::1],"
    " i8[::1], i8[:, ::1])"
)
def read_pages(
    pages: Bytes,
    bounds: IntArray,
    sizes: IntArray,
    wanted: IntArray,
    is_all: bool,
    start_ms: int,
    end_ms: int,
    ids: IntArray,
    ends: IntArray,
    times: IntArray,
    bits: IntArray,
    page_ends: IntArray,
) -> tuple[int, int]:
    """Read the samples of wanted series (ascending, or all) with times in `(start_ms, end_ms]`.

    `measure_pages` has accepted the pages and filled `sizes`. Series `i` of the answer has the id
    `ids[i]` and the samples from `ends[i]` to `ends[i + 1]`; page `k` has the series from
    `page_ends[0, k]` to `page_ends[0, k + 1]`, and `page_ends[1]` counts the cells of histograms in
    the same way, of all series and times. Returns as `measure_pages` does.
    """
    largest = signed(0)
    for k in range(len(sizes)):
        largest = max(largest, sizes[k, 0])
    n_histograms = np.zeros(1, np.int64)
    values = np.empty(largest, np.float64)
    work = (
        np.empty(largest, np.int64), np.empty(largest, np.int64), np.empty(largest, np.int64),
        np.empty(largest, np.int64), np.empty(largest, np.int64), np.empty(largest, np.int64),
        np.empty(largest, np.uint64), values, values.view(np.int64),
    )  # fmt: skip
    chosen = (wanted, is_all, start_ms, end_ms)
    found = (ids, ends, times, bits)
    n_series, n_samples = signed(0), signed(0)
    for k in range(len(bounds) - 1):
        n_series, n_samples = get_page(
            pages, bounds[k], sizes[k, 2], chosen, work, found, n_series, n_samples, n_histograms
        )
        if n_series < 0:
            return n_series, k
        page_ends[0, k + 1], page_ends[1, k + 1] = n_series, n_histograms[0]
    return 0, 0
