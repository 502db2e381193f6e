"""The embedded server's settings fit small and large machines."""

from pathlib import Path

import pytest

from sql.embedded.server_settings import Machine, measure_machine, render_settings, tune_settings

_GIBIBYTE = 1024**3


def _tune(memory_gibibytes: float, *, free_disk_gibibytes: float = 100) -> dict[str, str]:
    machine = Machine(
        memory_bytes=int(memory_gibibytes * _GIBIBYTE),
        cores=2,
        free_disk_bytes=int(free_disk_gibibytes * _GIBIBYTE),
    )
    return tune_settings(machine, has_timescaledb=True, has_lz4=True)


@pytest.mark.parametrize(
    ("memory_gibibytes", "shared_buffers"),
    [(0.125, "64MB"), (0.5, "128MB"), (1, "256MB"), (256, "256MB")],
)
def test_shared_buffers_are_a_quarter_of_memory_within_bounds(
    memory_gibibytes: float, shared_buffers: str
) -> None:
    assert _tune(memory_gibibytes)["shared_buffers"] == shared_buffers


@pytest.mark.parametrize(
    ("free_disk_gibibytes", "max_wal_size"), [(1, "512MB"), (20, "2048MB"), (500, "8192MB")]
)
def test_write_ahead_log_leaves_room_on_the_disk(
    free_disk_gibibytes: float, max_wal_size: str
) -> None:
    assert _tune(8, free_disk_gibibytes=free_disk_gibibytes)["max_wal_size"] == max_wal_size


def test_commits_are_durable() -> None:
    settings = _tune(8)
    assert settings["synchronous_commit"] == "on"
    assert "fsync" not in settings


def test_plain_server_gets_no_setting_it_does_not_know() -> None:
    machine = Machine(memory_bytes=_GIBIBYTE, cores=1, free_disk_bytes=_GIBIBYTE)
    settings = tune_settings(machine, has_timescaledb=False, has_lz4=False)
    assert not any("timescaledb" in name or "timescaledb" in settings[name] for name in settings)
    assert "wal_compression" not in settings


def test_values_are_quoted() -> None:
    assert render_settings({"a": "%m", "b": "it's"}) == "a = '%m'\nb = 'it''s'\n"


def test_measured_machine_is_plausible(tmp_path: Path) -> None:
    machine = measure_machine(tmp_path)
    assert machine.memory_bytes > 64 * 1024**2
    assert machine.cores >= 1
    assert machine.free_disk_bytes >= 0
