"""The data folder belongs to one process, and keeps its state whole."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from sql.embedded.data_folder import (
    DatabaseState,
    DataFolder,
    read_database_url,
    read_distribution,
    read_owner_url,
)
from sql.embedded.database import EmbeddedDatabase
from sql.embedded.errors import DataFolderInUseError, EmbeddedDatabaseError

_STATE = DatabaseState(distribution="debian", password="secret", port=5555)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    opened = DataFolder(tmp_path / "deep" / "data")
    opened.close()
    return opened


def test_lock_excludes_and_is_released(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "data")
    with pytest.raises(DataFolderInUseError, match="PROMCOMPAT_DATA_DIR"):
        DataFolder(tmp_path / "data")
    first.close()
    DataFolder(tmp_path / "data").close()


def test_existing_folder_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o750)
    DataFolder(tmp_path / "data").close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o750


def test_unusable_path_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedDatabaseError, match="cannot use the data folder"):
        DataFolder(tmp_path / "file" / "data")


def test_new_folder_has_no_state(folder: DataFolder) -> None:
    assert folder.read_state() is None
    assert read_database_url(folder.path) is None
    assert read_owner_url(folder.path) is None


def test_state_survives_and_is_private(folder: DataFolder) -> None:
    folder.cluster_path.mkdir()
    folder.write_state(_STATE, "postgresql://somewhere", "postgresql://owner@somewhere")
    assert folder.read_state() == _STATE
    assert read_database_url(folder.path) == "postgresql://somewhere"
    assert read_owner_url(folder.path) == "postgresql://owner@somewhere"
    for name in ("database.json", "database-url", "owner-url"):
        assert (folder.path / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "{}"])
def test_damaged_state_is_an_error(folder: DataFolder, text: str) -> None:
    folder.cluster_path.mkdir()
    (folder.path / "database.json").write_text(text, encoding="utf-8")
    with pytest.raises(EmbeddedDatabaseError, match="damaged"):
        folder.read_state()
    with pytest.raises(EmbeddedDatabaseError, match="damaged"):
        read_distribution(folder.path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"distribution": 5}, "distribution must be a text"),
        ({"password": None}, "password must be a text"),
        ({"password": ["secret"]}, "password must be a text"),
        ({"service_password": 1}, "service_password must be a text or null"),
        ({"is_superuser_separate": "no"}, "is_superuser_separate must be true or false"),
        ({"timescaledb_version": 2.19}, "timescaledb_version must be a text or null"),
        *(({"port": port}, "port must be a port or null") for port in ("1", 1.0, True, 0, 70_000)),
    ],
)
def test_a_state_that_was_edited_by_hand_says_what_is_wrong(
    folder: DataFolder, change: dict[str, object], told: str
) -> None:
    folder.cluster_path.mkdir()
    text = json.dumps({**asdict(_STATE), **change})
    (folder.path / "database.json").write_text(text, encoding="utf-8")
    with pytest.raises(EmbeddedDatabaseError, match=f"is damaged: {told}; restore"):
        folder.read_state()


def test_files_that_are_no_text_are_damaged(folder: DataFolder) -> None:
    for name in ("database-url", "owner-url", "database.json"):
        (folder.path / name).write_bytes(b"\xff\xfe")
    for read in (read_database_url, read_owner_url, read_distribution):
        with pytest.raises(EmbeddedDatabaseError, match=r"is damaged: .*can't decode"):
            read(folder.path)


def test_state_of_a_newer_version_is_told_from_damage(folder: DataFolder) -> None:
    folder.cluster_path.mkdir()
    text = json.dumps({**asdict(_STATE), "later": 1})
    (folder.path / "database.json").write_text(text, encoding="utf-8")
    with pytest.raises(EmbeddedDatabaseError, match="newer promcompat, as it has later"):
        folder.read_state()


def test_large_log_is_rotated_once(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sql.embedded.data_folder._LOG_LIMIT_BYTES", 10)
    folder.log_file.write_text("short", encoding="utf-8")
    folder.rotate_log()
    assert folder.log_file.exists()
    folder.log_file.write_text("much longer than that", encoding="utf-8")
    folder.rotate_log()
    assert not folder.log_file.exists()
    assert (folder.path / "postgres.log.1").exists()


def test_what_cannot_be_read_is_an_error_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(
        EmbeddedDatabaseError, match=r"cannot read .*database-url: .*account of the"
    ):
        read_database_url(tmp_path / ("a" * 300))


def test_a_fault_of_the_system_during_the_start_is_an_error_and_frees_the_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "data" / "postgres" / "postmaster.pid").mkdir(parents=True)
    with pytest.raises(EmbeddedDatabaseError, match=r"cannot start .*: Is a directory \(.*\.pid\)"):
        EmbeddedDatabase.start(tmp_path / "data", report=print)
    DataFolder(tmp_path / "data").close()
