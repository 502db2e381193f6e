"""Backfills of recording rules: what a backfill writes is what evaluations at the time write."""

from dataclasses import replace

import numpy as np
import pytest

from promcompat.alerting.backfill import Backfill, BackfillRange, check_distinct
from promcompat.core.alerting.alerts import Rule, RuleKind
from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME, STALE_NAN_BITS, SeriesSelection
from promcompat.metrics.correction_service import CorrectionService
from promql.engine import Engine, EngineOptions
from tests.support.factories import make_labels
from tests.support.services.alerting import (
    NOW_MS,
    TENANT,
    AlertingFixture,
    make_rule,
    running_alerting,
)

pytestmark = pytest.mark.integration

SECOND = 1_000
INTERVAL_MS = 10 * SECOND
RULES = [
    make_rule("r", "m > 5", kind=RuleKind.RECORD, labels={"team": "x"}, position=1),
    make_rule("s", "sum(r) or vector(0)", kind=RuleKind.RECORD,
              position=2, query_offset_ms=3_000),
    make_rule("limited", "m", kind=RuleKind.RECORD, position=3, max_alerts=1),
    make_rule("at", "m @ end()", kind=RuleKind.RECORD, position=4),
]  # fmt: skip


async def stored(alerting: AlertingFixture, name: str) -> dict[str, list[tuple[int, int]]]:
    """The times and the bits of all samples of a metric, by series; stale markers too."""
    matcher = LabelMatcher(METRIC_NAME, MatchOp.EQUAL, name)
    selection = SeriesSelection(
        matchers=(matcher,), start_ms=NOW_MS - 1, end_ms=NOW_MS + 1_000 * SECOND
    )
    (block,) = await alerting.storage.store.select(TENANT, [selection])
    bits = np.ascontiguousarray(block.values).view(np.uint64).tolist()
    points = list(zip((block.timestamps - NOW_MS).tolist(), bits, strict=True))
    return {
        str(labels): points[block.offsets[row] : block.offsets[row + 1]]
        for row, labels in enumerate(block.labels)
        if block.offsets[row] < block.offsets[row + 1]
    }


def backfill_of(alerting: AlertingFixture, *, is_dry: bool) -> Backfill:
    corrections = CorrectionService(alerting.storage.corrections, alerting.definitions)
    engine = Engine(alerting.storage.store, EngineOptions())
    return Backfill(TENANT, engine, corrections, is_dry=is_dry)


async def test_a_backfill_writes_what_evaluations_at_the_time_write(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        for rule in RULES:
            await alerting.rules.create(TENANT, rule)
        for host, start in (("a", 3.0), ("b", 8.0)):
            points = [(at * SECOND, start + (at % 40) / 10) for at in range(0, 200, 5)]
            await alerting.write(make_labels("m", host=host), *points)
        await alerting.write(make_labels("r", other="own"), (50 * SECOND, 1.0))
        for at_ms in range(0, 200 * SECOND, INTERVAL_MS):
            await alerting.evaluate(at_ms)
        names = [rule.name for rule in RULES]
        live = {name: await stored(alerting, name) for name in names}
        assert any(bits == STALE_NAN_BITS for points in live["r"].values() for _, bits in points)
        wanted = BackfillRange(NOW_MS, NOW_MS + 190 * SECOND)
        counted = await backfill_of(alerting, is_dry=True).run(RULES, wanted)
        assert {name: await stored(alerting, name) for name in names} == live
        done = await backfill_of(alerting, is_dry=False).run(RULES, wanted)
        assert {name: await stored(alerting, name) for name in names} == live
        assert [each.n_steps for each in done] == [each.n_steps for each in counted]
        assert done[2].n_failed == done[2].n_steps > 0 == done[2].n_samples
        changed = [replace(RULES[0], expr="m > 100")]
        (emptied,) = await backfill_of(alerting, is_dry=False).run(changed, wanted)
        assert (emptied.n_samples, emptied.n_replaced > 0) == (0, True)
        assert list(await stored(alerting, "r")) == ['{__name__="r", other="own"}']


def test_rules_that_may_share_series_are_not_backfilled() -> None:
    def rule(**labels: str) -> Rule:
        return make_rule("r", kind=RuleKind.RECORD, labels=labels)

    check_distinct([rule(a="1", b="2"), rule(a="2"), make_rule("s", kind=RuleKind.RECORD)])
    for other in (rule(), rule(b="1"), rule(a="1")):
        with pytest.raises(BadDataError, match="may record the same series"):
            check_distinct([rule(a="1"), other])
