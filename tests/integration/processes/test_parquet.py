"""Samples as Parquet and back: every bit, by the commands, from memory, runs and blocks."""

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from promcompat.__main__ import main
from promcompat.core.model import STALE_NAN_BITS, WriteBatch
from promcompat.metrics import sample_stream
from tests.support.factories import block_rows, float_column, make_batch, make_labels, select_name
from tests.support.storage.repositories import drain_and_compact, opened_storage

pytestmark = pytest.mark.integration
pytest.importorskip("pyarrow")

T0 = 1_700_000_000_000
DAY_MS = 86_400_000
EVER = (-(1 << 61), 1 << 61)
UP = make_labels("up", job="a", path='"quoted" \\ 漢字')
DOWN = make_labels("down")
SPECIAL = [STALE_NAN_BITS, 0xFFF8_0000_DEAD_BEEF, 0x7FF8000000000000, 1 << 63, 1]


async def write_bits(url: str, first_ms: int, bits: list[int]) -> None:
    values = float_column([0.0] * len(bits))
    values.view(np.uint64)[:] = bits
    batch = make_batch({UP: [(first_ms + at, 0.0) for at in range(len(bits))]})
    async with opened_storage(url) as storage:
        batch = WriteBatch.of_keys(batch.unknown_keys, batch.timestamps, values, batch.labels)
        await storage.store.write_batch("default", batch)
        await storage.store.write_batch("default", make_batch({DOWN: [(first_ms, 1.5)]}))
        if first_ms < T0:
            await drain_and_compact(storage)


async def samples_of(url: str, tenant: str, *names: str) -> object:
    async with opened_storage(url) as storage:
        blocks = await storage.store.select(tenant, [select_name(name, *EVER) for name in names])
    return [block_rows(block) for block in blocks]


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(main, arguments)


async def test_every_bit_comes_back(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMCOMPAT_DATABASE_URL", database_url)
    monkeypatch.setattr(sample_stream, "_FIRST_WINDOW_MS", 2)
    file = str(tmp_path / "all.parquet")
    # A sample of 1970, a drained day, and what is in the head.
    for first_ms in (0, T0 - 40 * DAY_MS, T0):
        await write_bits(database_url, first_ms, SPECIAL)
    assert await run("export", file) == 0
    for _ in range(2):
        assert await run("import-parquet", file, "--tenant", "copy") == 0
    copied = await samples_of(database_url, "copy", "up", "down")
    assert copied == await samples_of(database_url, "default", "up", "down")
    assert os.listdir(tmp_path) == ["all.parquet"]


async def test_selector_and_times_choose_samples(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMCOMPAT_DATABASE_URL", database_url)
    file = str(tmp_path / "some.parquet")
    await write_bits(database_url, T0, [1, 2, 3, 4])
    start, end = f"{T0 / 1000 + 0.001}", f"{T0 / 1000 + 0.002}"
    chosen = ("--match", 'up{job="a"}', "--start", start, "--end", end)
    assert await run("export", file, *chosen) == 0
    assert await run("import-parquet", file, "--tenant", "copy") == 0
    assert await samples_of(database_url, "copy", "up", "down") == [
        {UP: [(T0 + 1, 2), (T0 + 2, 3)]},
        {},
    ]


async def test_values_that_contradict_stored_ones_are_counted(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PROMCOMPAT_DATABASE_URL", database_url)
    file = tmp_path / "all.parquet"
    await write_bits(database_url, T0, [1, 2])
    assert await run("export", str(file)) == 0
    async with opened_storage(database_url) as storage:
        await storage.store.write_batch("copy", make_batch({DOWN: [(T0, 2.5)]}))
    assert await run("import-parquet", str(file), "--tenant", "copy") == 1
    assert "1 samples were not stored" in capsys.readouterr().err
    file.write_bytes(b"PAR1 no such file")
    assert await run("import-parquet", str(file)) == 1
    assert "cannot read" in capsys.readouterr().err


async def test_a_file_that_cannot_be_written_is_named(
    plain_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PROMCOMPAT_DATABASE_URL", plain_database_url)
    (tmp_path / "folder").mkdir()
    faults = {"folder": "Is a directory", "missing/file": "No such file or directory"}
    for name, fault in faults.items():
        assert await run("export", str(tmp_path / name)) == 1
        assert capsys.readouterr()[1].endswith(f"/{name}: {fault}\n")
    assert os.listdir(tmp_path) == ["folder"]
