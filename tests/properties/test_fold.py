"""The fold equals a dictionary that takes the samples one by one, to the bit of each value."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from sql.samples.columns.fold import Deletion, Piece, fold, gathered, in_order
from sql.samples.columns.series_samples import SeriesSamples
from tests.support.storage.sample_model import BITS, SERIES, TIMES, folded, rows_of, samples_of


@st.composite
def pieces(draw: DrawFn, max_size: int = 6) -> list[Piece]:
    """Pieces with disjoint ranges of arrivals, in any order."""
    rows = st.dictionaries(st.tuples(SERIES, TIMES), BITS, max_size=12)
    content = draw(st.lists(st.tuples(rows, st.booleans(), st.integers(0, 2)), max_size=max_size))
    made = []
    arrival = 1
    for some, replaces, width in content:
        made.append(Piece(samples_of(some), arrival, arrival + width, replaces))
        arrival += width + 2
    return draw(st.permutations(made))


@st.composite
def deletions(draw: DrawFn) -> list[Deletion]:
    """Deletions between and within pieces."""
    made = []
    for arrival_id in draw(st.lists(st.integers(1, 24), max_size=3, unique=True)):
        ids = draw(st.none() | st.sets(SERIES, max_size=3))
        series_ids = None if ids is None else np.array(sorted(ids), np.int64)
        first_ms = draw(TIMES | st.just(-(1 << 63)))
        last_ms = draw(st.integers(first_ms, 13) | st.just((1 << 63) - 1))
        made.append(Deletion(arrival_id, series_ids, first_ms, last_ms))
    return made


@given(pieces(), deletions())
@example([], [])
def test_a_fold_equals_the_samples_taken_one_by_one(
    pieces: list[Piece], deletions: list[Deletion]
) -> None:
    assert rows_of(fold(pieces, deletions)) == folded(pieces, deletions)


@given(
    st.lists(st.tuples(SERIES, TIMES, BITS, st.booleans()), min_size=9, max_size=20),
    st.sampled_from((1, 1_000_000)),
)
def test_many_pieces_of_few_series_each(
    rows: list[tuple[int, int, int, bool]], distance: int
) -> None:
    """The ids of series are next to each other, or far apart; every piece has two of them."""
    pieces = []
    for arrival, (series, time_ms, bits, replaces) in enumerate(rows):
        some = {(series * distance, time_ms): bits, ((series + 1) * distance, time_ms): bits}
        pieces.append(Piece(samples_of(some), arrival, arrival, replaces))
    assert rows_of(fold(pieces)) == folded(pieces, ())


@given(pieces(), deletions(), st.data())
def test_a_piece_that_is_seen_twice_changes_nothing(
    pieces: list[Piece], deletions: list[Deletion], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(pieces), max_size=3)) if pieces else []
    assert rows_of(fold([*pieces, *again], deletions)) == rows_of(fold(pieces, deletions))


@given(pieces(), st.data())
def test_neighbouring_pieces_may_be_folded_first(pieces: list[Piece], data: st.DataObject) -> None:
    replaces = data.draw(st.booleans())
    same = sorted((piece for piece in pieces if piece.replaces == replaces), key=_last_arrival)
    begin = data.draw(st.integers(0, len(same)))
    some = same[begin : data.draw(st.integers(begin, len(same)))]
    rest = [piece for piece in pieces if all(piece is not one for one in some)]
    if some:
        bounds = some[0].first_arrival, some[-1].last_arrival
        rest.append(Piece(fold(some), *bounds, replaces))
    assert rows_of(fold(rest)) == rows_of(fold(pieces))


def _last_arrival(piece: Piece) -> int:
    return piece.last_arrival


@given(pieces(), st.sets(st.integers(0, 6)), TIMES, TIMES)
def test_gathered_samples_are_those_of_the_series_and_times(
    pieces: list[Piece], series: set[int], start_ms: int, end_ms: int
) -> None:
    parts = [piece.samples for piece in in_order(pieces)]
    wanted = np.array(sorted(series), np.int64)
    expected = {
        (one, time_ms): bits
        for (one, time_ms), bits in folded(pieces, ()).items()
        if one in series and start_ms < time_ms <= end_ms
    }
    assert rows_of(gathered(parts, wanted, start_ms, end_ms)) == expected


def test_pieces_that_do_not_overlap_are_joined() -> None:
    times = np.arange(1000, dtype=np.int64)
    parts = [
        SeriesSamples(
            np.array([3, 7], np.int64),
            np.array([0, 500, 1000], np.int64),
            np.concatenate([times[:500], times[:500]]) + 500 * index,
            times.astype(np.float64) + index,
        )
        for index in range(4)
    ]
    joined = fold([Piece(part, index, index, False) for index, part in enumerate(parts)])
    assert joined.offsets.tolist() == [0, 2000, 4000]
    assert joined.timestamps[:2000].tolist() == list(range(2000))


def test_one_piece_is_its_own_fold() -> None:
    samples = samples_of({(1, 1): 5})
    assert fold([Piece(samples, 1, 1, True)]) is samples


# Thirty pieces of a few samples each, of so many series that pieces have few in common. The second
# set of times is too long to be one number together with a series.
@given(
    st.lists(
        st.dictionaries(
            st.tuples(st.integers(0, 400), st.sampled_from([0, 1, 7, 5_000])), BITS, min_size=1
        ),
        min_size=30,
        max_size=30,
    ),
    st.booleans(),
)
def test_many_pieces_of_many_series(content: list[dict[tuple[int, int], int]], far: bool) -> None:
    if far:
        content[0][0, -(1 << 61)] = 5
    made = [Piece(samples_of(rows), k, k, replaces=k % 3 == 0) for k, rows in enumerate(content)]
    assert rows_of(fold(made)) == folded(made, ())
