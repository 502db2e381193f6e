"""The table of limits, values as people write them, and the file of overrides."""

from dataclasses import fields
from pathlib import Path

import pytest

from promcompat.configuration.settings import Settings
from promcompat.core.errors import BadDataError
from promcompat.core.limits.limit_definitions import LIMIT_OF, LIMITS, parse_overrides
from promcompat.core.limits.tenant_limits import TenantLimits
from promcompat.limits import override_file
from promcompat.limits.override_file import OverrideFile, parse_override_file

_PAGE = Path(__file__).parents[3] / "docs" / "limits.md"


def test_the_table_the_values_and_the_settings_have_the_same_limits() -> None:
    names = [field.name for field in fields(TenantLimits) if field.init]
    assert names == [limit.name for limit in LIMITS]
    assert {limit.setting for limit in LIMITS} <= Settings.model_fields.keys()


def test_the_limits_and_reasons_are_documented() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    missing = [
        word
        for limit in LIMITS
        for word in (limit.name, limit.reason, f"PROMCOMPAT_{limit.setting.upper()}")
        if f"`{word}`" not in text and word
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("ingestion_rate", 5, 5),
        ("ingestion_rate", "5", 5),
        ("past_grace_period", "1h30m", 5_400_000),
        ("past_grace_period", 0, 0),
        ("past_grace_period", "0", 0),
    ],
)
def test_values_as_people_write_them(name: str, value: object, parsed: int) -> None:
    assert parse_overrides({name: value}) == {name: parsed}
    assert LIMIT_OF[name].parse(LIMIT_OF[name].shown(parsed)) == parsed
    assert LIMIT_OF[name].check(parsed) == parsed


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ingestion_rate", -1, "a whole number from 0"),
        ("ingestion_rate", True, "a whole number from 0"),
        ("ingestion_rate", "1k", "a whole number from 0"),
        ("ingestion_rate", None, "a whole number from 0"),
        ("weight", 0, "from 1 to 100"),
        ("max_rules", -1, "0 for no limit"),
        ("max_global_exemplars_per_user", -1, "0 for none"),
        ("max_label_names_per_series", 1001, "from 1 to 1000"),
        ("past_grace_period", "soon", "a duration such as 10m"),
        ("past_grace_period", 600, "a duration such as 10m"),
        ("past_grace_period", False, "a duration such as 10m"),
        ("max_magic", 1, "there is no limit 'max_magic'; expected one of ingestion_rate,"),
    ],
)
def test_other_values_are_refused_with_what_is_expected(
    name: str, value: object, reason: str
) -> None:
    with pytest.raises(BadDataError, match=reason):
        parse_overrides({name: value})


def test_the_file_has_the_form_of_mimir() -> None:
    text = "overrides:\n  a:\n    ingestion_rate: 5\n    past_grace_period: 1h\n  b: {}\n"
    assert parse_override_file(text) == {
        "a": {"ingestion_rate": 5, "past_grace_period": 3_600_000},
        "b": {},
    }
    assert parse_override_file("") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("overrides: [a]", "line 1"),
        ("limits: {}", "field limits not found"),
        ("overrides: {a: {max_magic: 1}}", "field max_magic not found"),
        ("overrides: {a: {weight: 0}}", "line 1: weight: '0' is not allowed"),
        ("overrides: {}\n---\noverrides: {}", "one YAML document"),
    ],
)
def test_another_file_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BadDataError, match=reason):
        parse_override_file(text)


async def test_a_file_that_becomes_bad_keeps_the_last_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "limits.yml"
    file = OverrideFile(path)
    with pytest.raises(BadDataError, match="PROMCOMPAT_LIMITS_FILE"):
        file.load()
    path.write_text("overrides: {a: {weight: 2}}")
    file.load()
    assert file.overrides == {"a": {"weight": 2}}
    path.write_text("overrides: {a: {weight: 200}}")
    assert not await file.refresh()
    assert (file.overrides, "weight" in file.fault) == ({"a": {"weight": 2}}, True)
    with monkeypatch.context() as without:
        # A bad file is not parsed again until it changes.
        without.delattr(override_file, "parse_override_file")
        assert not await file.refresh()
    assert "weight" in file.fault
    # One that was away is read again, even if it is the same one.
    path.rename(tmp_path / "away")
    assert not await file.refresh()
    assert "no such file" in file.fault.lower()
    (tmp_path / "away").rename(path)
    assert not await file.refresh()
    assert "weight" in file.fault
    path.write_text("overrides: {a: {weight: 20}}")
    assert await file.refresh()
    assert (file.overrides, file.fault) == ({"a": {"weight": 20}}, "")
