"""What every store must do with the catalogue of its series.

A concrete class supplies the fixtures `store` and `catalogue`.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from promcompat.core.errors import WriteRejectedError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import (
    METRIC_NAME,
    STALE_NAN_BITS,
    UNKNOWN_SERIES,
    Labels,
    MetricMetadata,
    SampleBlock,
    SeriesSelection,
    WriteBatch,
)
from promcompat.core.ports import Catalogue, Store
from tests.support.factories import (
    block_rows,
    encode_labels,
    float_column,
    make_batch,
    make_labels,
    make_matcher,
    select_name,
    value_bits,
)

T0 = 1_700_000_000_000
DAY_MS = 86_400_000
ALL_TIME = (T0 - 100 * 365 * DAY_MS, T0 + 365 * DAY_MS)

UP_A = make_labels("up", job="api", instance="a:1")
UP_B = make_labels("up", job="api", instance="b:1")
UP_DB = make_labels("up", job="db", instance="c:1", zone="eu")
LOAD = make_labels("load1", instance="a:1")


def select_matching(
    *matchers: LabelMatcher, start_ms: int = ALL_TIME[0], end_ms: int = ALL_TIME[1]
) -> SeriesSelection:
    return SeriesSelection(matchers=matchers, start_ms=start_ms, end_ms=end_ms)


class StoreContract:
    """The behaviour promised by `promcompat.core.ports.Store` and `Catalogue`."""

    async def select_one(
        self, store: Store, selection: SeriesSelection, tenant: str = "default"
    ) -> SampleBlock:
        blocks = await store.select(tenant, [selection])
        assert len(blocks) == 1
        return blocks[0]

    async def names(self, store: Store, *matchers: LabelMatcher) -> list[Labels]:
        block = await self.select_one(store, select_matching(*matchers))
        return sorted(block.labels)

    async def write_four(self, store: Store, tenant: str = "default") -> None:
        series = {UP_B: [(T0, 1.0)], UP_A: [(T0, 1.0)], UP_DB: [(T0, 0.0)], LOAD: [(T0, 0.5)]}
        await store.write_batch(tenant, make_batch(series))

    # -- samples ------------------------------------------------------------------------------

    async def test_select_returns_exact_bits(self, store: Store) -> None:
        plain = [0.0, float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7e308, 0.1, 0.0]
        values = float_column(plain)
        # A stale marker, and a NaN with a sign and a payload of its own.
        values.view(np.uint64)[[0, 8]] = (STALE_NAN_BITS, 0xFFF8_0000_DEAD_BEEF)
        batch = make_batch({UP_A: [(T0 + step, 0.0) for step in range(9)]})
        batch = WriteBatch.of_keys(batch.unknown_keys, batch.timestamps, values, batch.labels)
        await store.write_batch("default", batch)
        block = await self.select_one(store, select_name("up", T0 - 1, T0 + 100))
        assert block.values.view(np.uint64).tolist() == values.view(np.uint64).tolist()

    async def test_select_is_left_open_and_right_closed(self, store: Store) -> None:
        await store.write_batch(
            "default", make_batch({UP_A: [(T0 + step * 1000, step) for step in range(5)]})
        )
        block = await self.select_one(store, select_name("up", T0 + 1000, T0 + 3000))
        assert block.timestamps.tolist() == [T0 + 2000, T0 + 3000]
        assert block.values.tolist() == [2.0, 3.0]

    async def test_select_has_series_as_they_were_first_written_and_samples_by_time(
        self, store: Store
    ) -> None:
        late_first = [(T0 + 5, 5.0), (T0 - 40 * DAY_MS, 1.0), (T0, 3.0)]
        await store.write_batch("default", make_batch({UP_DB: late_first, UP_B: [(T0, 2.0)]}))
        await store.write_batch("default", make_batch({UP_A: [(T0 + 1, 7.0)]}))
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert list(block_rows(block)) == [UP_DB, UP_B, UP_A]
        assert block.offsets.tolist() == [0, 3, 4, 5]
        assert block.timestamps.tolist() == [T0 - 40 * DAY_MS, T0, T0 + 5, T0, T0 + 1]
        assert block.values.tolist() == [1.0, 3.0, 5.0, 2.0, 7.0]

    async def test_select_answers_every_selection_in_order(self, store: Store) -> None:
        await self.write_four(store)
        up, nothing, load = await store.select(
            "default",
            [
                select_name("up", *ALL_TIME),
                select_name("absent", *ALL_TIME),
                select_name("load1", *ALL_TIME),
            ],
        )
        assert len(up.labels) == 3
        assert (nothing.labels, nothing.offsets.tolist()) == ((), [0])
        assert load.labels == (LOAD,)

    async def test_select_leaves_out_or_empties_series_without_samples_in_range(
        self, store: Store
    ) -> None:
        await store.write_batch(
            "default", make_batch({UP_A: [(T0, 1.0)], UP_B: [(T0 + 1000, 2.0)]})
        )
        block = await self.select_one(store, select_name("up", T0, T0 + 1000))
        filled = {labels: rows for labels, rows in block_rows(block).items() if rows}
        assert filled == {UP_B: [(T0 + 1000, value_bits(2.0))]}

    async def test_times_before_the_epoch_are_kept(self, store: Store) -> None:
        await store.write_batch("default", make_batch({UP_A: [(-1500, 1.0), (0, 2.0)]}))
        block = await self.select_one(store, select_name("up", -10_000, 0))
        assert block.timestamps.tolist() == [-1500, 0]

    # -- matchers -----------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("matcher", "expected"),
        [
            (("job", "=", "api"), [UP_A, UP_B]),
            (("job", "!=", "api"), [LOAD, UP_DB]),
            (("job", "=", ""), [LOAD]),
            (("job", "!=", ""), [UP_A, UP_B, UP_DB]),
            (("zone", "=~", "e.|x"), [UP_DB]),
            (("zone", "=~", "eu|"), [LOAD, UP_A, UP_B, UP_DB]),
            (("zone", "!~", "e."), [LOAD, UP_A, UP_B]),
            (("zone", "!~", "|e."), []),
            (("job", "=~", "ap"), []),
            (("job", "=~", "(?i)API"), [UP_A, UP_B]),
            ((METRIC_NAME, "=~", "lo.*|nothing"), [LOAD]),
            ((METRIC_NAME, "!=", "up"), [LOAD]),
            (("never_seen", "=", "x"), []),
            (("never_seen", "!=", "x"), [LOAD, UP_A, UP_B, UP_DB]),
        ],
    )
    async def test_matchers(
        self,
        store: Store,
        matcher: tuple[str, str, str],
        expected: list[Labels],
    ) -> None:
        await self.write_four(store)
        assert await self.names(store, make_matcher(*matcher)) == expected

    async def test_matchers_are_all_required(self, store: Store) -> None:
        await self.write_four(store)
        found = await self.names(
            store,
            make_matcher(METRIC_NAME, "=", "up"),
            make_matcher("instance", "=~", "a.*|c.*"),
            make_matcher("job", "!=", "db"),
        )
        assert found == [UP_A]

    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            (("job", "=", "api"), ("zone", "=~", "eu|"), [UP_A, UP_B]),
            (("zone", "=~", "eu|"), ("job", "!=", "api"), [LOAD, UP_DB]),
            ((METRIC_NAME, "=", "up"), ("zone", "=~", "|x"), [UP_A, UP_B]),
            (("zone", "=~", "|x"), ("job", "=~", "api|"), [LOAD, UP_A, UP_B]),
            (("instance", "=~", "a:1|b:1"), ("job", "!~", "api|"), []),
            ((METRIC_NAME, "=~", "up|load1"), ("zone", "!~", "eu|"), []),
        ],
    )
    async def test_alternatives_do_not_loosen_other_matchers(
        self,
        store: Store,
        catalogue: Catalogue,
        first: tuple[str, str, str],
        second: tuple[str, str, str],
        expected: list[Labels],
    ) -> None:
        await self.write_four(store)
        for pair in ((first, second), (second, first)):
            found = await self.names(store, *(make_matcher(*matcher) for matcher in pair))
            assert found == expected
            listed = await catalogue.series(
                "default", [tuple(make_matcher(*matcher) for matcher in pair)], T0, T0, 0
            )
            assert listed == expected

    async def test_label_text_is_matched_literally(self, store: Store) -> None:
        odd = make_labels("m", path='a"b\\c%d_e', utf8="grüß 漢字 \n", quote="it's")
        plain = make_labels("m", path="a")
        await store.write_batch("default", make_batch({odd: [(T0, 1.0)], plain: [(T0, 2.0)]}))
        for name, value in odd.without_name():
            assert await self.names(store, make_matcher(name, "=", value)) == [odd]
        assert await self.names(store, make_matcher("utf8", "=~", "gr.*字 .")) == [odd]

    # -- writing ------------------------------------------------------------------------------

    async def test_same_sample_again_is_accepted(self, store: Store) -> None:
        batch = make_batch({UP_A: [(T0, 1.0), (T0 + 1, float("nan"))]})
        await store.write_batch("default", batch)
        await store.write_batch("default", batch)
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert block.timestamps.tolist() == [T0, T0 + 1]

    async def test_other_value_at_a_stored_time_is_rejected_and_the_rest_kept(
        self, store: Store
    ) -> None:
        await store.write_batch("default", make_batch({UP_A: [(T0, 1.0)]}))
        with pytest.raises(WriteRejectedError, match=f"duplicate sample for timestamp {T0}"):
            await store.write_batch(
                "default", make_batch({UP_A: [(T0, 2.0), (T0 + 1, 3.0)], UP_B: [(T0, 4.0)]})
            )
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert block_rows(block) == {
            UP_A: [(T0, value_bits(1.0)), (T0 + 1, value_bits(3.0))],
            UP_B: [(T0, value_bits(4.0))],
        }

    async def test_conflict_inside_one_batch_keeps_the_first(self, store: Store) -> None:
        with pytest.raises(WriteRejectedError, match="duplicate sample for timestamp"):
            await store.write_batch(
                "default", make_batch({UP_A: [(T0, 1.0), (T0, 2.0), (T0 + 1, 9.0)]})
            )
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert block.values.tolist() == [1.0, 9.0]

    async def test_zero_and_minus_zero_conflict(self, store: Store) -> None:
        await store.write_batch("default", make_batch({UP_A: [(T0, 0.0)]}))
        with pytest.raises(WriteRejectedError):
            await store.write_batch("default", make_batch({UP_A: [(T0, -0.0)]}))

    async def test_samples_timed_by_the_server_are_all_kept(self, store: Store) -> None:
        """Equal values too: they are different measurements of one millisecond."""
        await store.write_batch("default", make_batch({UP_A: [(T0, 1.0), (T0 + 2, 2.0)]}))
        same_time = make_batch({UP_A: [(T0, 1.0), (T0, 4.0)], UP_B: [(T0, 1.0)]})
        timed = replace(same_time, server_timed=np.ones(3, np.bool_))
        await store.write_batch("default", timed)
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert block_rows(block) == {
            UP_A: [
                (T0, value_bits(1.0)),
                (T0 + 1, value_bits(1.0)),
                (T0 + 2, value_bits(2.0)),
                (T0 + 3, value_bits(4.0)),
            ],
            UP_B: [(T0, value_bits(1.0))],
        }

    async def test_only_rows_timed_by_the_server_move(self, store: Store) -> None:
        batch = make_batch({UP_A: [(T0, 1.0), (T0, 2.0)]})
        mixed = replace(batch, server_timed=np.array([True, False]))
        await store.write_batch("default", mixed)
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert block_rows(block) == {UP_A: [(T0, value_bits(2.0)), (T0 + 1, value_bits(1.0))]}

    async def test_equal_sample_twice_in_one_batch_is_stored_once(self, store: Store) -> None:
        await store.write_batch("default", make_batch({UP_A: [(T0, 1.0), (T0, 1.0)]}))
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert block.timestamps.tolist() == [T0]

    async def test_two_keys_of_one_label_set_name_one_series(self, store: Store) -> None:
        pairs = list(UP_A)
        keys = [encode_labels(pairs), encode_labels(reversed(pairs))]
        assert keys[0] != keys[1]
        batch = WriteBatch.of_keys(
            keys, np.array([T0, T0 + 1]), float_column([1.0, 2.0]), dict.fromkeys(keys, UP_A)
        )
        await store.write_batch("default", batch)
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert block.labels == (UP_A,)
        assert block.values.tolist() == [1.0, 2.0]

    async def test_batch_of_known_series_needs_no_labels(self, store: Store) -> None:
        first = make_batch({UP_A: [(T0, 1.0)]})
        assert store.known_series("default").find(first.unknown_keys).tolist() == [UNKNOWN_SERIES]
        await store.write_batch("default", first)
        known = store.known_series("default")
        ids = known.find(first.unknown_keys)
        if UNKNOWN_SERIES in ids.tolist():
            pytest.skip("this store keeps no series in memory")
        again = WriteBatch(
            ids, first.timestamps + 1, first.values, [], {}, known_version=known.version
        )
        await store.write_batch("default", again)
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert block.timestamps.tolist() == [T0, T0 + 1]

    async def test_known_and_new_series_of_one_batch_keep_their_samples(self, store: Store) -> None:
        await store.write_batch("default", make_batch({UP_A: [(T0, 1.0)]}))
        new = make_labels("up", instance="new")
        batch = make_batch({new: [(T0, 5.0)], UP_A: [(T0 + 1, 2.0)]})
        known = store.known_series("default")
        ids = known.find(batch.unknown_keys)
        keys = [key for key, found in zip(batch.unknown_keys, ids, strict=True) if found < 0]
        mixed = replace(batch, series_ids=ids, unknown_keys=keys, known_version=known.version)
        await store.write_batch("default", mixed)
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert dict(zip(block.labels, block.offsets[1:] - block.offsets[:-1], strict=True)) == {
            UP_A: 2,
            new: 1,
        }

    async def test_empty_batch_is_accepted(self, store: Store, catalogue: Catalogue) -> None:
        await store.write_batch("default", make_batch({}))
        assert await catalogue.series("default", [], *ALL_TIME, 0) == []

    async def test_large_batch_of_new_series_is_stored(self, store: Store) -> None:
        rows = {
            make_labels("many", number=f"{number:04}"): [(T0 + step, number) for step in range(3)]
            for number in range(2000)
        }
        await store.write_batch("default", make_batch(rows))
        block = await self.select_one(store, select_name("many", *ALL_TIME))
        assert len(block.labels) == 2000
        assert len(block.timestamps) == 6000
        assert block.values[::3].tolist() == list(range(2000))

    async def test_sample_bounds_are_those_of_the_tenant(self, store: Store) -> None:
        assert await store.sample_bounds("default") is None
        series = {UP_A: [(T0 - 40 * DAY_MS, 1.0), (T0, 2.0)], UP_B: [(T0 + 5, 1.0)]}
        await store.write_batch("default", make_batch(series))
        await store.write_batch("other", make_batch({UP_A: [(T0 + DAY_MS, 1.0)]}))
        assert await store.sample_bounds("default") == (T0 - 40 * DAY_MS, T0 + 5)
        assert await store.sample_bounds("other") == (T0 + DAY_MS, T0 + DAY_MS)

    # -- what is known of series --------------------------------------------------------------

    async def test_series_lists_each_matching_label_set_once(
        self, store: Store, catalogue: Catalogue
    ) -> None:
        await self.write_four(store)
        sets = [
            (make_matcher(METRIC_NAME, "=", "up"),),
            (make_matcher("instance", "=", "a:1"),),
        ]
        found = await catalogue.series("default", sets, T0, T0, 0)
        assert found == [LOAD, UP_A, UP_B, UP_DB]
        assert await catalogue.series("default", sets, T0, T0, 2) == [LOAD, UP_A]

    async def test_series_range_is_closed_on_both_sides(
        self, store: Store, catalogue: Catalogue
    ) -> None:
        await store.write_batch(
            "default", make_batch({UP_A: [(T0, 1.0)], UP_B: [(T0 + DAY_MS, 1.0)]})
        )
        assert await catalogue.series("default", [], T0, T0 + 5, 0) == [UP_A]
        assert await catalogue.series("default", [], T0 - 5, T0, 0) == [UP_A]
        assert await catalogue.series("default", [], T0 + 1, T0 + DAY_MS - 1, 0) == []
        assert await catalogue.series("default", [], T0, T0 + DAY_MS, 0) == [UP_A, UP_B]

    async def test_label_names_and_values(self, store: Store, catalogue: Catalogue) -> None:
        await self.write_four(store)
        api = [(make_matcher("job", "=", "api"),)]
        assert await catalogue.label_names("default", [], T0, T0, 0) == [
            METRIC_NAME,
            "instance",
            "job",
            "zone",
        ]
        assert await catalogue.label_names("default", api, T0, T0, 0) == [
            METRIC_NAME,
            "instance",
            "job",
        ]
        assert await catalogue.label_names("default", [], T0, T0, 2) == [METRIC_NAME, "instance"]
        values = catalogue.label_values
        assert await values("default", "job", [], T0, T0, 0) == ["api", "db"]
        assert await values("default", "instance", api, T0, T0, 0) == ["a:1", "b:1"]
        assert await values("default", METRIC_NAME, [], T0, T0, 0) == ["load1", "up"]
        assert await values("default", "instance", [], T0, T0, 1) == ["a:1"]
        assert await values("default", "zone", api, T0, T0, 0) == []
        assert await values("default", "never_seen", [], T0, T0, 0) == []
        assert await values("default", "job", [], T0 + 1, T0 + 2, 0) == []

    async def test_labels_are_counted_whatever_characters_they_have(
        self, store: Store, catalogue: Catalogue
    ) -> None:
        assert (await catalogue.label_counts("default")).by_label() == {}
        odd = [
            "ü",
            '"',
            "\\",
            "\\n",
            "\n",
            "\r\n",
            "\x01",
            "\x02",
            "a\x01\x02b",
            ",",
            "\\.",
            "\u2028",
            "😀",
        ]
        series = [Labels.of({"a": text, "n": str(n % 3)}) for n, text in enumerate(odd)]
        series += [make_labels(text, **{text: "1", "n": "1"}) for text in odd]
        series += [UP_A, UP_B, UP_DB, LOAD, make_labels("m", long="x" * 2_000)]
        rows = {labels: [(T0, 1.0)] for labels in series}
        await store.write_batch("default", make_batch(rows))
        await store.write_batch("other", make_batch({UP_A: [(T0, 1.0)]}))
        expected = Counter(label for labels in rows for label in labels)
        found = await catalogue.label_counts("default")
        assert (found.n_series, found.by_label()) == (len(rows), expected)
        n_bytes = [len(value.encode()) for value in found.values]
        assert found.value_bytes.tolist() == n_bytes

    async def test_metadata_keeps_the_last_word_on_a_family(
        self, store: Store, catalogue: Catalogue
    ) -> None:
        old = MetricMetadata("up", "unknown", "", "")
        up = MetricMetadata("up", "gauge", "Whether it is up.", "")
        size = MetricMetadata("size_bytes", "gauge", "Its size.", "bytes")
        await store.write_batch("default", make_batch({}, [up, size]))
        assert await catalogue.metadata("default", None) == [size, up]
        await store.write_batch("default", make_batch({UP_A: [(T0, 1.0)]}, [old]))
        assert await catalogue.metadata("default", "up") == [old]
        assert await catalogue.metadata("default", "nothing") == []

    # -- tenants ------------------------------------------------------------------------------

    async def test_tenants_share_nothing(self, store: Store, catalogue: Catalogue) -> None:
        await self.write_four(store, "first")
        key = make_batch({UP_A: [(T0, 1.0)]}).unknown_keys[0]
        assert store.known_series("second").find([key]).tolist() == [UNKNOWN_SERIES]
        assert await catalogue.series("second", [], *ALL_TIME, 0) == []
        assert await catalogue.label_names("second", [], *ALL_TIME, 0) == []
        assert await catalogue.label_values("second", "job", [], *ALL_TIME, 0) == []
        assert await catalogue.metadata("second", None) == []
        block = await self.select_one(store, select_name("up", *ALL_TIME), "second")
        assert block.labels == ()

        await store.write_batch("second", make_batch({UP_A: [(T0, 42.0)]}))
        block = await self.select_one(store, select_name("up", *ALL_TIME), "second")
        assert block_rows(block) == {UP_A: [(T0, value_bits(42.0))]}
        block = await self.select_one(store, select_name("up", *ALL_TIME), "first")
        assert block_rows(block)[UP_A] == [(T0, value_bits(1.0))]

    async def test_ping_answers(self, store: Store) -> None:
        await store.ping()
