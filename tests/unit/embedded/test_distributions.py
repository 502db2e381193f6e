"""Which PostgreSQL a data folder gets, and what is said where there is none."""

from pathlib import Path

import pytest

from promcompat.core.cache_folder import InstallError, Report
from sql.embedded import distributions
from sql.embedded.distributions import DEBIAN, WHEEL, PostgresDistribution, choose_distribution
from sql.embedded.errors import EmbeddedDatabaseError


def _distribution(name: str, timescaledb_version: str | None) -> PostgresDistribution:
    return PostgresDistribution(
        name=name,
        bin_folder=Path("/programs"),
        major=17,
        version="17.1",
        timescaledb_version=timescaledb_version,
        has_lz4=True,
    )


_TIMESCALEDB = _distribution(DEBIAN, "2.19.3")
_PLAIN = _distribution(WHEEL, None)


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The distributions that can be installed; a test takes some away."""
    names = {DEBIAN, WHEEL}

    def install(_cache_folder: Path, _report: Report) -> PostgresDistribution:
        if DEBIAN not in names:
            raise InstallError("this system has no apt-get")
        return _TIMESCALEDB

    def find(_cache_folder: Path) -> PostgresDistribution:
        if WHEEL not in names:
            raise InstallError("the package is not installed")
        return _PLAIN

    monkeypatch.setattr(distributions, "install_timescaledb", install)
    monkeypatch.setattr(distributions, "find_wheel", find)
    return names


def _choose(made_by: str | None, lines: list[str] | None = None) -> PostgresDistribution:
    report = [] if lines is None else lines
    return choose_distribution(made_by, Path("/cache"), report.append)


def test_new_folder_gets_timescaledb(available: set[str]) -> None:
    assert _choose(None) is _TIMESCALEDB


def test_new_folder_gets_the_wheel_without_apt_and_says_why(available: set[str]) -> None:
    available.remove(DEBIAN)
    lines: list[str] = []
    assert _choose(None, lines) is _PLAIN
    assert any("no apt-get" in line for line in lines)


def test_folder_keeps_the_distribution_that_made_it(available: set[str]) -> None:
    assert _choose(WHEEL) is _PLAIN
    assert _choose(DEBIAN) is _TIMESCALEDB


@pytest.mark.parametrize("made_by", [DEBIAN, WHEEL])
def test_folder_whose_distribution_is_gone_is_refused(available: set[str], made_by: str) -> None:
    available.remove(made_by)
    with pytest.raises(EmbeddedDatabaseError, match="created by PostgreSQL from"):
        _choose(made_by)


def test_nothing_to_start_tells_what_to_do(available: set[str]) -> None:
    available.clear()
    with pytest.raises(EmbeddedDatabaseError, match="PROMCOMPAT_DATABASE_URL"):
        _choose(None)


def test_missing_wheel_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InstallError, match=r"promcompat\[embedded\]"):
        distributions.find_wheel(tmp_path)


def test_description_names_the_edition() -> None:
    assert _TIMESCALEDB.description == "PostgreSQL 17.1 with TimescaleDB 2.19.3 (Apache)"
    assert _PLAIN.description == "PostgreSQL 17.1 (without TimescaleDB)"


def test_folder_of_an_unknown_distribution_is_refused(available: set[str]) -> None:
    with pytest.raises(EmbeddedDatabaseError, match=r"'snap'.*knows debian and wheel"):
        _choose("snap")
