"""`promcompat import`: its checkpoint, and how the size of windows follows what is in them."""

import time
from argparse import Namespace
from pathlib import Path

import aiohttp
import numpy as np
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from promcompat.core.model import STALE_NAN_BITS
from promcompat.imports.columns import NORMAL_NAN_BITS
from promcompat.processes.command_line import build_parser
from promcompat.processes.history.importing import (
    check_addresses,
    load_checkpoint,
    next_size,
    past_retention,
)
from promcompat.processes.history.sources import (
    HistoryImportError,
    RemoteReadSource,
    Server,
    Tally,
    Window,
    send_write_requests,
    tally_of_samples,
)
from promcompat.remote_write.remote_pb2 import WriteRequest


def options(*more: str) -> Namespace:
    given = ["import", "prometheus", "http://p:9090", "--start", "100", "--end", "200"]
    return build_parser().parse_args([*given, *more])


def test_a_saved_checkpoint_is_where_the_same_import_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    checkpoint = load_checkpoint(options(), file)
    assert (checkpoint.position_ms, checkpoint.end_ms) == (100_000, 200_000)
    checkpoint.position_ms, checkpoint.number, checkpoint.checksum = 150_000, 7, 2**64 - 1
    checkpoint.save(file)
    assert load_checkpoint(options(), file) == checkpoint
    assert load_checkpoint(options("--end", "300"), file).end_ms == 300_000
    assert load_checkpoint(options(), file).tally == Tally(7, 2**64 - 1)
    for other in (("--match", "up"), ("--start", "101")):
        with pytest.raises(HistoryImportError, match="is of another import"):
            load_checkpoint(options(*other), file)
    file.write_text("{")
    with pytest.raises(HistoryImportError, match="cannot be read"):
        load_checkpoint(options(), file)


@pytest.mark.parametrize("other", [("--to", "http://b:9201"), ("--tenant", "b")])
def test_an_import_into_another_service_or_tenant_does_not_go_on(
    tmp_path: Path, other: tuple[str, str]
) -> None:
    """It would leave out what the first import has sent elsewhere."""
    file = tmp_path / "checkpoint"
    first = ("--to", "http://user:secret@a:9201/", "--tenant", "a")
    load_checkpoint(options(*first), file).save(file)
    assert b"secret" not in file.read_bytes()
    assert load_checkpoint(options(*first), file).position_ms == 100_000
    with pytest.raises(
        HistoryImportError, match=r"of another import .* to http://a:9201, tenant a"
    ):
        load_checkpoint(options(*first, *other), file)


def test_a_checkpoint_of_an_early_version_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    load_checkpoint(options(), file).save(file)
    saved = orjson.loads(file.read_bytes())
    del saved["to"], saved["tenant"], saved["checksum"]
    file.write_bytes(orjson.dumps(saved | {"n_histograms": 3, "total": 1.5, "number": 7}))
    found = load_checkpoint(options("--tenant", "b"), file)
    assert found.position_ms == 100_000
    assert found.tally.agrees_with(Tally(7, 5))
    assert not found.tally.plus(Tally(1, 5)).agrees_with(Tally(7, 5))


@pytest.mark.parametrize("address", ["u:secret@b", "http://u:secret@[b", "http://u:secret@b:65536"])
def test_addresses_are_checked_and_their_passwords_not_shown(address: str) -> None:
    check_addresses(options("--to", "http://[::1]:9201/p"))
    for given, name in ((options("--to", address), "--to"), (options(), "URL")):
        if name == "URL":
            given.source = address
        with pytest.raises(HistoryImportError, match=f"{name} must be an address") as caught:
            check_addresses(given)
        assert "secret" not in str(caught.value)


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(options(), None)
    with pytest.raises(HistoryImportError, match=r"nowhere/c cannot be written: No such file"):
        checkpoint.save(tmp_path / "nowhere" / "c")


def test_windows_grow_while_they_have_few_samples_and_shrink_with_many() -> None:
    assert next_size(1_000, 0) == 4_000
    assert next_size(1_000, 1_000_000) == 1_000
    assert next_size(1_000, 3_000_000) == 250
    assert next_size(1, 3_000_000) == 1
    assert next_size(7 * 86_400_000, 0) == 7 * 86_400_000


_VALUES = np.array([1e300, 0.1, -1e300, 0.0, -0.0, np.inf, 1.0, 5e-324])
_TIMES = np.arange(-4, 4) * 1_000


def test_samples_agree_in_every_order_and_grouping() -> None:
    whole = tally_of_samples(_TIMES, _VALUES)
    parts = tally_of_samples(_TIMES[5:][::-1], _VALUES[5:][::-1])
    assert parts.plus(tally_of_samples(_TIMES[:5], _VALUES[:5])) == whole
    assert whole.agrees_with(parts.plus(tally_of_samples(_TIMES[:5], _VALUES[:5])))


@pytest.mark.parametrize("row", range(len(_VALUES)))
def test_another_time_or_value_of_a_single_sample_is_noticed(row: int) -> None:
    """Also a value whose difference disappears in the sum of all."""
    whole = tally_of_samples(_TIMES, _VALUES)
    other, later = _VALUES.copy(), _TIMES.copy()
    other[row] = np.nextafter(other[row], 2.0)
    later[row] += 1
    assert not tally_of_samples(_TIMES, other).agrees_with(whole)
    assert not tally_of_samples(later, _VALUES).agrees_with(whole)


def test_values_that_change_places_are_noticed() -> None:
    whole = tally_of_samples(_TIMES, _VALUES)
    assert not tally_of_samples(_TIMES, _VALUES[::-1]).agrees_with(whole)


def test_every_nan_is_one_but_the_stale_marker() -> None:
    bits = np.array([NORMAL_NAN_BITS, 0xFFF8_0000_0000_0005, STALE_NAN_BITS], np.uint64)
    usual, other, stale = (tally_of_samples(_TIMES[:1], one) for one in bits.view("f8")[:, None])
    assert usual.agrees_with(other)
    assert not usual.agrees_with(stale)


def test_an_import_that_begins_before_what_is_kept_says_so() -> None:
    now_ms = time.time_ns() // 1_000_000
    assert past_retention(30, now_ms - 29 * 86_400_000) == ""
    assert past_retention(0, 0) == ""
    warning = past_retention(30, now_ms - 31 * 86_400_000)
    assert "keeps samples for 30 days" in warning
    assert "set-retention" in warning


async def test_a_service_is_asked_what_the_tenant_keeps() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.path == "/api/v1/metrics/retention"
        own = {"b": 90, "c": 0}.get(request.headers.get("X-Scope-OrgID", ""))
        return web.json_response({"retention_days": own, "service_retention_days": 30})

    async with RawTestServer(answer) as running, aiohttp.ClientSession() as session:
        url = str(running.make_url("")).rstrip("/")
        found = [
            await Server(session, url, {"X-Scope-OrgID": tenant}).retention_days()
            for tenant in ("a", "b", "c")
        ]
    assert found == [30, 90, 0]


@pytest.mark.parametrize("answered", [[], 5, None, {}, {"retention_days": "all"}])
async def test_another_service_does_not_say_what_it_keeps(answered: object) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.json_response(answered)

    async with RawTestServer(answer) as running, aiohttp.ClientSession() as session:
        url = str(running.make_url("")).rstrip("/")
        assert await Server(session, url).retention_days() == 0


async def test_what_a_service_refuses_is_told_without_the_password() -> None:
    async def refuse(_: web.BaseRequest) -> web.Response:
        return web.Response(status=403, text="ann does not have the role read")

    async with RawTestServer(refuse) as running, aiohttp.ClientSession() as session:
        url = str(running.make_url("").with_user("any").with_password("secret")).rstrip("/")
        service = Server(session, url)
        assert await service.retention_days() == 0
        with pytest.raises(HistoryImportError, match="answered 403: ann does not have") as refused:
            await RemoteReadSource(service, ()).read(0, 1)
        request = WriteRequest(timeseries=[b""]).SerializeToString()
        with pytest.raises(HistoryImportError, match="answered 403") as also:
            await send_write_requests(Window(request, Tally()), service)
    for error in (refused, also):
        assert "secret" not in str(error.value)
