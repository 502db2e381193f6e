"""Test scripts hold: on the in-memory fake, and on every edition of the database.

The fake gives the engine all samples; the database may compute parts of a query itself, so the
two check each other. Prometheus' own scripts are read where the shared folder is.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from promcompat.core.ports import Store
from promql.engine import Engine, EngineOptions
from promql.features import ALL_FEATURES, Feature
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StorageOptions
from tests.promqltest.engine_target import EngineTarget
from tests.promqltest.ratchet import KNOWN_FAILURES, find_surprises, read_known_failures
from tests.promqltest.runner import CaseRunner, Outcome, Status
from tests.promqltest.script_parser import read_script
from tests.promqltest.suites import (
    needs_delayed_name_removal,
    own_scripts,
    shared_folder,
    upstream_scripts,
)
from tests.support.fakes import InMemoryStore
from tests.support.storage.repositories import store_under_test


def script_name(path: Path) -> str:
    """The name of a test: the file's, with the folder of those that need another engine."""
    folder = path.parent.name
    return path.name if folder in ("scripts", "promqltest") else f"{folder}/{path.name}"


OWN = [pytest.param(path, id=script_name(path)) for path in own_scripts()]
UPSTREAM = [pytest.param(path, id=path.name) for path in upstream_scripts()] or [
    pytest.param(
        Path(),
        id="none",
        marks=pytest.mark.skip(
            reason=f"Prometheus' own scripts are not at {shared_folder()}; "
            "PROMCOMPAT_SHARED_DIR names another place"
        ),
    )
]


@pytest.fixture
async def stored(database_url: str) -> AsyncIterator[Store]:
    # Scripts have few samples; by their number alone hardly a rule would ever apply.
    options = StorageOptions(store=store_under_test(), pushdown=PushdownMode.FORCED)
    storage = await MetricStorage.open(database_url, options)
    yield storage.store
    await storage.close()


async def run_script(
    path: Path, store: Store, engine: Engine, *, with_variants: bool, strict: bool
) -> list[Outcome]:
    """The outcomes of every eval of a script; each case has a tenant of its own."""
    outcomes: list[Outcome] = []
    for number, case in enumerate(read_script(path).cases):
        target = EngineTarget(store, engine, f"case-{number}")
        runner = CaseRunner(
            target,
            with_variants=with_variants,
            is_strict=strict,
            with_histograms=True,
        )
        outcomes += [outcome async for outcome in runner.run(case)]
    return outcomes


def make_engine(store: Store, *, delayed_name_removal: bool) -> Engine:
    """An engine with every feature, but delayed name removal only if asked for."""
    features = ALL_FEATURES
    if not delayed_name_removal:
        features = features - {Feature.DELAYED_NAME_REMOVAL}
    return Engine(store, EngineOptions(features=features))


async def check_own(path: Path, store: Store, *, with_variants: bool) -> None:
    engine = make_engine(store, delayed_name_removal=needs_delayed_name_removal(path))
    outcomes = await run_script(path, store, engine, with_variants=with_variants, strict=True)
    assert all(outcome.status is not Status.SKIPPED for outcome in outcomes)
    assert find_surprises(path.name, outcomes, {}) == []


async def check_upstream(path: Path, store: Store, *, with_variants: bool) -> None:
    known = read_known_failures(KNOWN_FAILURES.read_text("utf-8"))
    engine = make_engine(store, delayed_name_removal=True)
    outcomes = await run_script(path, store, engine, with_variants=with_variants, strict=False)
    surprises = find_surprises(path.name, outcomes, known)
    assert surprises == [], "\n".join(surprises)


@pytest.mark.parametrize("path", OWN)
async def test_own_script(path: Path) -> None:
    await check_own(path, InMemoryStore(), with_variants=True)


@pytest.mark.parametrize("path", UPSTREAM)
async def test_upstream_script(path: Path) -> None:
    await check_upstream(path, InMemoryStore(), with_variants=True)


@pytest.mark.integration
@pytest.mark.parametrize("path", OWN)
async def test_own_script_on_database(path: Path, stored: Store) -> None:
    await check_own(path, stored, with_variants=False)


@pytest.mark.integration
@pytest.mark.parametrize("path", UPSTREAM)
async def test_upstream_script_on_database(path: Path, stored: Store) -> None:
    await check_upstream(path, stored, with_variants=False)
