"""Sums, differences and averages of native histograms: one pass over the terms of each result.

The order of additions and the special cases are those of Prometheus, so that results agree to the
last bit: schemas and zero buckets are reconciled term by term.
"""

import numpy as np

from promcompat.core.bucket_bounds_kernels import exponential_bound
from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import FloatArray, IntArray
from promql.histograms.bucket_list_kernels import (
    LISTS,
    Lists,
    add_to_list,
    added,
    drop_inside,
    fill_list,
    fold_rests,
    has_buckets,
    has_overflow,
    map_list,
    merge_lists,
    reduce_list,
    renumber_list,
    scale_list,
    shared_bounds,
    widened_zero_bucket,
)
from promql.histograms.source_kernels import (
    BOUNDS,
    COUNT,
    COUNT_REST,
    CUSTOM,
    HINT,
    SCHEMA,
    SOURCE,
    THRESHOLD,
    TOTAL,
    TOTAL_REST,
    ZERO,
    ZERO_REST,
    Source,
    append_pair,
    combine_hints,
    have_one_layout,
)
from promql.values.sample_kernels import FLOATS, INTEGERS

PLAIN, SUM, AVERAGE = 0, 1, 2
"""How terms are added: as operators do; with compensation; and divided by their number then."""
MIXED, RECONCILED_IN_ADDITION, RECONCILED_IN_SUBTRACTION, COLLISION = 1, 2, 4, 8
"""What happened to a result: bits of its flags."""
ANY_SCHEMA = 127
"""A limit of a result's schema that is none."""

N_LISTS = 6
"""Two lists for each side of a result, which moves between them, and two for a term."""
_TERM_POSITIVE, _TERM_NEGATIVE = 4, 5
N_BOUND_LISTS = 3
"""The custom bounds of a result, those of a term and those that both have."""

_RESET, _NO_RESET = 1, 2

State = tuple[IntArray, FloatArray, IntArray, FloatArray, IntArray]
"""The result that comes about: its integers, its floats with rests, its two lists' numbers, custom
bounds [N_BOUND_LISTS, limit], and how many bounds it has."""


@kernel(allocates=False)
def _load_buckets(
    source: Source,
    lists: Lists,
    row: int,
    positive: int,
    negative: int,
    sign: float,
    divisor: float,
) -> None:
    own = slice(source[2][row], source[2][row + 1])
    fill_list(lists, positive, sign, divisor, source[3][own], source[4][own])
    own = slice(source[5][row], source[5][row + 1])
    fill_list(lists, negative, sign, divisor, source[6][own], source[7][own])


@kernel(allocates=False)
def _begin(source: Source, lists: Lists, state: State, row: int, max_schema: int) -> None:
    """Make the first term the result."""
    integers, floats, sides, bounds, n_bounds = state
    for column in range(3):
        integers[column] = source[0][row, column]
    for column in range(4):
        floats[column] = source[1][row, column]
    floats[ZERO_REST] = floats[COUNT_REST] = floats[TOTAL_REST] = 0.0
    sides[0], sides[1] = 0, 2
    _load_buckets(source, lists, row, 0, 2, 1.0, 1.0)
    n_bounds[0] = 0
    if integers[BOUNDS] >= 0:
        place = integers[BOUNDS]
        listed = source[9][source[8][place] : source[8][place + 1]]
        n_bounds[0] = len(listed)
        for i in range(len(listed)):
            bounds[0, i] = listed[i]
    elif max_schema < integers[SCHEMA]:
        for side in range(2):
            reduce_list(False, lists, 2 * side, integers[SCHEMA] - max_schema)
        integers[SCHEMA] = max_schema


@kernel(allocates=False)
def _reconcile_zero_buckets(
    lists: Lists,
    state: State,
    term_schema: int,
    term_threshold: float,
    term_zero: float,
) -> tuple[float, float]:
    """Raise thresholds until result and term have the same; the term's zero count and its rest."""
    integers, floats, sides, _, _ = state
    threshold, zero, rest = term_threshold, term_zero, 0.0
    # NaN, which no valid histogram has as a threshold, would never equal another.
    while threshold < floats[THRESHOLD] or threshold > floats[THRESHOLD]:
        if threshold < floats[THRESHOLD]:
            zero, rest, threshold = widened_zero_bucket(
                term_schema,
                lists,
                _TERM_POSITIVE,
                _TERM_NEGATIVE,
                floats[THRESHOLD],
                term_zero,
                0.0,
            )
        if threshold > floats[THRESHOLD]:
            floats[ZERO], floats[ZERO_REST], floats[THRESHOLD] = widened_zero_bucket(
                integers[SCHEMA],
                lists,
                sides[0],
                sides[1],
                threshold,
                floats[ZERO],
                floats[ZERO_REST],
            )
            for side in range(2):
                drop_inside(integers[SCHEMA], lists, sides[side], floats[THRESHOLD])
    return zero, rest


@kernel(allocates=False)
def _first_outside(schema: int, lists: Lists, at: int, threshold: float) -> int:
    """The first bucket of a term's list that the zero bucket has not absorbed."""
    first = 0
    while first < lists[3][at] and exponential_bound(schema, lists[0][at, first]) <= threshold:
        first += 1
    return first


@kernel(allocates=False)
def _merge_sides(is_compensated: bool, lists: Lists, state: State) -> None:
    """Merge the buckets of a term, whose schema is that of the result, into the result."""
    integers, floats, sides, _, _ = state
    is_exponential = integers[SCHEMA] != CUSTOM
    for side in range(2):
        first, term = 0, _TERM_POSITIVE + side
        if not lists[3][term]:
            continue
        if is_exponential:
            first = _first_outside(integers[SCHEMA], lists, term, floats[THRESHOLD])
        # The lists of a side are 2 * side and the next.
        to = 4 * side + 1 - sides[side]
        merge_lists(is_compensated, lists, sides[side], term, first, to)
        sides[side] = to


@kernel(allocates=False)
def _reconcile_bounds(
    is_compensated: bool, source: Source, lists: Lists, state: State, place: int
) -> bool:
    """Give the result and a term the custom bounds that both have; whether they had others."""
    integers, _, sides, bounds, n_bounds = state
    if integers[BOUNDS] == place:
        return False
    own, listed = bounds[0, : n_bounds[0]], source[9][source[8][place] : source[8][place + 1]]
    n_shared = shared_bounds(own, listed, bounds[2])
    if n_shared == len(own) and n_shared == len(listed):
        return False
    map_list(is_compensated, lists, sides[0], own, bounds[2, :n_shared])
    renumber_list(lists, _TERM_POSITIVE, listed, bounds[2, :n_shared])
    for i in range(n_shared):
        bounds[0, i] = bounds[2, i]
    n_bounds[0] = n_shared
    integers[BOUNDS] = -2
    return True


@kernel(allocates=False)
def _reconcile_schemas(is_compensated: bool, lists: Lists, state: State, schema: int) -> None:
    """Reduce the finer one of the result and a term of this schema to the other's."""
    integers, _, sides, _, _ = state
    shift = abs(integers[SCHEMA] - schema)
    if not shift:
        return
    for side in range(2):
        at = sides[side] if schema < integers[SCHEMA] else _TERM_POSITIVE + side
        reduce_list(is_compensated, lists, at, shift)
    integers[SCHEMA] = min(integers[SCHEMA], schema)


@kernel(allocates=False)
def _fits_side(schema: int, threshold: float, lists: Lists, at: int, indices: IntArray) -> bool:
    """Whether the result has all of a term's buckets, and the zero bucket absorbs none of them."""
    if not len(indices):
        return True
    if schema != CUSTOM and exponential_bound(schema, indices[0]) <= threshold:
        return False
    return has_buckets(lists, at, indices)


@kernel(allocates=False)
def _fits(source: Source, lists: Lists, state: State, row: int) -> bool:
    """Whether a term can be added as it is: nothing of it or of the result has to be reconciled.

    Most terms can, as histograms of a metric have one layout, and that costs a fifth of a merge.
    """
    integers, floats, sides, _, _ = state
    schema, threshold = integers[SCHEMA], floats[THRESHOLD]
    if source[0][row, SCHEMA] != schema or source[0][row, BOUNDS] != integers[BOUNDS]:
        return False
    if source[1][row, THRESHOLD] != threshold:
        return False
    own = slice(source[2][row], source[2][row + 1])
    if not _fits_side(schema, threshold, lists, sides[0], source[3][own]):
        return False
    own = slice(source[5][row], source[5][row + 1])
    return _fits_side(schema, threshold, lists, sides[1], source[6][own])


@kernel(allocates=False)
def _add_term(
    is_compensated: bool,
    source: Source,
    lists: Lists,
    state: State,
    row: int,
    sign: float,
    divisor: float,
) -> int:
    """Add `sign * term / divisor` to the result; returns flags, only MIXED if they do not fit."""
    integers, floats, sides, _, _ = state
    schema, place, flags = source[0][row, SCHEMA], source[0][row, BOUNDS], 0
    if (schema == CUSTOM) != (integers[SCHEMA] == CUSTOM):
        return MIXED
    combine_hints(integers, source[0][row, HINT])
    zero, zero_rest = sign * source[1][row, ZERO] / divisor, 0.0
    fits = _fits(source, lists, state, row)
    if not fits:
        _load_buckets(source, lists, row, _TERM_POSITIVE, _TERM_NEGATIVE, sign, divisor)
        if schema != CUSTOM:
            zero, zero_rest = _reconcile_zero_buckets(
                lists, state, schema, source[1][row, THRESHOLD], zero
            )
            _reconcile_schemas(is_compensated, lists, state, schema)
        elif _reconcile_bounds(is_compensated, source, lists, state, place):
            flags = RECONCILED_IN_ADDITION if sign > 0 else RECONCILED_IN_SUBTRACTION
    for column, rest, x in (
        (ZERO, ZERO_REST, zero),
        (ZERO, ZERO_REST, zero_rest if is_compensated else 0.0),
        (COUNT, COUNT_REST, sign * source[1][row, COUNT] / divisor),
        (TOTAL, TOTAL_REST, sign * source[1][row, TOTAL] / divisor),
    ):
        floats[column], floats[rest] = added(is_compensated, floats[column], floats[rest], x)
    if fits:
        own = slice(source[2][row], source[2][row + 1])
        add_to_list(is_compensated, lists, sides[0], sign, divisor, source[3][own], source[4][own])
        own = slice(source[5][row], source[5][row + 1])
        add_to_list(is_compensated, lists, sides[1], sign, divisor, source[6][own], source[7][own])
    else:
        _merge_sides(is_compensated, lists, state)
    return flags


@kernel(allocates=False)
def _is_infinite(lists: Lists, state: State) -> bool:
    floats, sides = state[1], state[2]
    if np.isinf(floats[ZERO]) or np.isinf(floats[COUNT]) or np.isinf(floats[TOTAL]):
        return True
    for side in range(2):  # noqa: SIM110 - kernels have no generators
        if has_overflow(lists, sides[side]):
            return True
    return False


@kernel(allocates=False)
def _scale_result(lists: Lists, state: State, factor: float, divisor: float) -> None:
    floats, sides = state[1], state[2]
    for column in range(ZERO, TOTAL_REST + 1):
        floats[column] = floats[column] / divisor * factor
    for side in range(2):
        scale_list(lists, sides[side], factor, divisor)


@kernel(allocates=False)
def _finish(is_compensated: bool, lists: Lists, state: State, divisor: float) -> None:
    """Divide the result, and add to it what compensated summation still owes."""
    floats, sides = state[1], state[2]
    for column, rest in ((ZERO, ZERO_REST), (COUNT, COUNT_REST), (TOTAL, TOTAL_REST)):
        floats[column] /= divisor
        if is_compensated:
            floats[column] += floats[rest] / divisor
    for side in range(2):
        fold_rests(is_compensated, lists, sides[side], divisor)


@kernel(allocates=False)
def _fold_terms(
    mode: int,
    mean_from: int,
    source: Source,
    lists: Lists,
    state: State,
    rows: IntArray,
    signs: FloatArray,
    max_schema: int,
) -> tuple[int, int]:
    """Combine terms; returns flags, and the term at which an average overflows, or -1.

    From the term `mean_from` on an average is a running mean instead of a sum.
    """
    _begin(source, lists, state, rows[0], max_schema)
    flags = 0
    for term in range(1, len(rows)):
        divisor = 1.0
        if term >= mean_from:
            divisor = term + 1.0
            _scale_result(lists, state, term / divisor, term if term == mean_from else 1.0)
        flags |= _add_term(mode != PLAIN, source, lists, state, rows[term], signs[term], divisor)
        if flags & MIXED:
            return flags, -1
        if mode == AVERAGE and term < mean_from and _is_infinite(lists, state):
            return flags, term
    is_sum = mode == AVERAGE and mean_from >= len(rows)
    _finish(mode != PLAIN, lists, state, float(len(rows)) if is_sum else 1.0)
    return flags, -1


@kernel(allocates=False)
def _has_collision(source: Source, rows: IntArray) -> bool:
    """Whether some terms say that a counter was reset before them, and some that none was."""
    has_reset = has_none = False
    for row in rows:
        has_reset |= source[0][row, HINT] == _RESET
        has_none |= source[0][row, HINT] == _NO_RESET
    return has_reset and has_none


@kernel(allocates=False)
def _append_list(lists: Lists, at: int, n_used: int, indices: IntArray, counts: FloatArray) -> int:
    """Append a list to the buckets of results, of which some are used; how many are then."""
    for i in range(lists[3][at]):
        indices[n_used + i], counts[n_used + i] = lists[0][at, i], lists[1][at, i]
    end: int = n_used + lists[3][at]
    return end


@kernel(allocates=False)
def _append_bounds(state: State, n_used: int, new_bounds: FloatArray) -> int:
    for i in range(state[4][0]):
        new_bounds[n_used + i] = state[3][0, i]
    end: int = n_used + state[4][0]
    return end


@kernel(
    f"void(int64, {SOURCE}, {INTEGERS}, {INTEGERS}, {FLOATS}, {INTEGERS}, {LISTS}, "
    "float64[:, ::1], int64[::1], int64[:, ::1], float64[:, ::1], int64[::1], int64[:, ::1], "
    "Tuple((int64[::1], float64[::1], int64[::1], float64[::1])), int64[::1], float64[::1])",
    allocates=False,
)
def combine(
    mode: int,
    source: Source,
    offsets: IntArray,
    rows: IntArray,
    signs: FloatArray,
    max_schemas: IntArray,
    lists: Lists,
    bounds: FloatArray,
    own: IntArray,
    integers: IntArray,
    floats: FloatArray,
    flags: IntArray,
    ends: IntArray,
    buckets: tuple[IntArray, FloatArray, IntArray, FloatArray],
    bound_ends: IntArray,
    new_bounds: FloatArray,
) -> None:
    """Combine the terms of each result.

    Result i has the terms `rows[offsets[i]:offsets[i + 1]]`, at least one, which are rows of the
    source, and the `signs` beside them; the sign of the first is 1. `max_schemas` limits the
    schemas of the results. `lists`, `bounds` [N_BOUND_LISTS, limit] and `own` [3] are for the
    kernel's own use; a list has room for all buckets of one side of a result, bounds for those of
    one histogram. Fills `integers` [n, 3], `floats` [n, 7], `flags` [n] and `buckets`: indices and
    counts of the positive buckets, then of the negative ones; those of result i end at
    `ends[:, i]` [2, n]. Where bounds were reconciled, `new_bounds` gets the lists, which end at
    `bound_ends`. There is room for the buckets of all terms, and for the bounds of the first ones.
    A result with MIXED has no buckets; its other flags are those of the terms before.
    """
    n_positive = n_negative = n_lists = n_bounds = 0
    for result in range(len(flags)):
        terms = slice(offsets[result], offsets[result + 1])
        row, other = rows[terms.start], rows[terms.stop - 1]
        # The change of a counter in a window: much the most frequent sum of all.
        is_pair = mode == PLAIN and terms.stop - terms.start == 2
        if is_pair and have_one_layout(source, row, other, max_schemas[result]):
            sign = signs[terms.stop - 1]
            n_positive, n_negative = append_pair(
                source, row, other, sign, integers[result], floats[result], buckets, n_positive,
                n_negative,
            )  # fmt: skip
            flags[result] = COLLISION if _has_collision(source, rows[terms]) else 0
            ends[0, result], ends[1, result] = n_positive, n_negative
            continue
        state = integers[result], floats[result], own[:2], bounds, own[2:]
        flag, overflow, mean_from = 0, 0, len(rows) + 1
        while overflow >= 0:
            flag, overflow = _fold_terms(
                mode,
                mean_from,
                source,
                lists,
                state,
                rows[terms],
                signs[terms],
                max_schemas[result],
            )
            mean_from = overflow
        flags[result] = flag | (COLLISION if _has_collision(source, rows[terms]) else 0)
        if flag & MIXED:
            lists[3][own[0]] = lists[3][own[1]] = 0
        elif integers[result, BOUNDS] < -1:
            integers[result, BOUNDS] -= n_lists
            n_bounds = _append_bounds(state, n_bounds, new_bounds)
            bound_ends[n_lists] = n_bounds
            n_lists += 1
        n_positive = _append_list(lists, own[0], n_positive, buckets[0], buckets[1])
        n_negative = _append_list(lists, own[1], n_negative, buckets[2], buckets[3])
        ends[0, result], ends[1, result] = n_positive, n_negative
