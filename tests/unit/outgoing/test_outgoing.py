"""Calls to other hosts: addresses of every form, policies, and secrets by name."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis.strategies import integers, ip_addresses

from promcompat.alerting.deliveries import NotificationError
from promcompat.alerting.senders import HttpSender, SecretHeaders, Target
from promcompat.composition.outgoing import (
    action_outgoing_policy,
    notification_policy,
    scrape_policy,
)
from promcompat.configuration.text import public_values, secrets_of
from promcompat.core.alerting.remediation import StepKey
from promcompat.core.errors import BadDataError
from promcompat.outgoing.addresses import Place, place_of
from promcompat.outgoing.client import GuardedClient
from promcompat.outgoing.policy import AddressRefusedError, AllowList, OutgoingPolicy, host_of
from promcompat.outgoing.secrets import NamedSecrets, SecretSource, SecretUnavailableError
from promcompat.remediation.actions import ActionPolicy, ActionRunner
from promcompat.remediation.plans import HttpAction
from promcompat.scraping.configuration import HttpConfig
from promcompat.scraping.fetching import FetchError, HttpFetcher
from promcompat.version import promcompat_version
from tests.support.services.http_service import GivenSettings

NOT_PUBLIC = (
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.9.9.9", "169.254.169.254"),
    *("172.16.0.1", "192.0.0.8", "192.88.99.1", "192.168.1.1", "198.18.0.1", "224.0.0.1"),
    *("240.0.0.1", "255.255.255.255", "168.63.129.16", "::", "::1", "::127.0.0.1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1"),
    *("2001:0:7f00:1::1", "2002:7f00:1::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1"),
    *("ff02::1", "64:ff9b::a9fe:a9fe"),
)
PUBLIC = ("1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101")
PLAIN = HttpConfig()
CLOSED = OutgoingPolicy(furthest=Place.PUBLIC)


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_no_form_of_an_address_that_is_not_public_passes(text: str) -> None:
    assert place_of(ip_address(text)) is not Place.PUBLIC
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(BadDataError, match="PROMCOMPAT_OUTGOING_ALLOW"):
        CLOSED.check_url(f"http://{host}:9093/x")


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_pass(text: str) -> None:
    host = f"[{text}]" if ":" in text else text
    assert CLOSED.check_url(f"https://{host}/x").port == 443


@given(ip_addresses(v=4))
def test_an_embedded_address_is_at_least_as_far_as_the_address(address: IPv4Address) -> None:
    number = int(address)
    for base in (0xFFFF << 32, 0x64FF9B << 96, 0x2002 << 112, 0):
        shift = 80 if base == 0x2002 << 112 else 0
        assert place_of(IPv6Address(base | number << shift)) >= place_of(address)


@given(integers(0, 2**128 - 1))
def test_every_address_has_a_place(number: int) -> None:
    address = IPv6Address(number)
    assert place_of(address) is not Place.PUBLIC or address.is_global


@pytest.mark.parametrize(
    ("allowed", "host", "address", "passes"),
    [
        ((), "any.example", "1.1.1.1", True),
        ((), "any.example", "10.0.0.1", False),
        (("10.0.0.0/8",), "any.example", "10.0.0.1", True),
        (("10.0.0.0/8",), "any.example", "::ffff:10.0.0.1", True),
        (("10.0.0.0/8",), "any.example", "192.168.0.1", False),
        # A list is a list: what is not on it is not called, wherever it is.
        (("10.0.0.0/8",), "any.example", "1.1.1.1", False),
        (("am.internal",), "am.internal", "10.0.0.1", True),
        (("am.internal:9093",), "am.internal", "10.0.0.1", True),
        (("am.internal:9094",), "am.internal", "10.0.0.1", False),
        (("*.internal",), "am.internal", "127.0.0.1", True),
        (("*.internal",), "internal", "127.0.0.1", False),
        # Whoever runs the DNS of a host could lead its name to the credentials of a cloud.
        (("am.internal",), "am.internal", "169.254.169.254", False),
        (("am.internal", "169.254.169.254"), "am.internal", "169.254.169.254", True),
    ],
)
def test_a_list_says_which_hosts_and_networks_are_called(
    allowed: tuple[str, ...], host: str, address: str, passes: bool
) -> None:
    policy = OutgoingPolicy(AllowList.of(allowed), Place.PUBLIC)
    called = host_of(f"http://{host}:9093")
    try:
        policy.check_address(called, ip_address(address))
    except AddressRefusedError:
        assert not passes
    else:
        assert passes


def test_policies_follow_the_access() -> None:
    private, cloud = ip_address("10.0.0.1"), ip_address("169.254.169.254")
    off, on = GivenSettings(), GivenSettings(access="tokens")
    for of in (notification_policy, action_outgoing_policy, scrape_policy):
        of(off).check_address(None, cloud)
        with pytest.raises(AddressRefusedError):
            of(on).check_address(None, cloud)
    scrape_policy(on).check_address(None, private)
    for of in (notification_policy, action_outgoing_policy):
        with pytest.raises(AddressRefusedError):
            of(on).check_address(None, private)
    listed = GivenSettings(access="tokens", remediation_http_hosts=("fix.internal",))
    action_outgoing_policy(listed).check_address(host_of("http://fix.internal"), private)
    with pytest.raises(BadDataError, match="an Alertmanager or webhook cannot be called"):
        notification_policy(GivenSettings(access="tokens", webhook_urls="http://127.0.0.1:1/x"))


@pytest.mark.parametrize("allowed", ["am.internal", "10.0.0.0/8"])
def test_remediations_do_not_reach_what_is_listed_for_notifications(allowed: str) -> None:
    settings = GivenSettings(access="tokens", outgoing_allow=(allowed, "hook.example"))
    host, private = host_of("http://am.internal"), ip_address("10.0.0.1")
    notification_policy(settings).check_address(host, private)
    actions = action_outgoing_policy(settings)
    actions.check_url("https://hook.example/x")
    with pytest.raises(AddressRefusedError, match="PROMCOMPAT_REMEDIATION_HTTP_HOSTS"):
        actions.check_address(host, private)
    # The list still says what else is not called.
    actions.check_address(host_of("https://hook.example"), ip_address("1.1.1.1"))
    with pytest.raises(AddressRefusedError):
        actions.check_address(host_of("https://other.example"), ip_address("1.1.1.1"))
    off = GivenSettings(outgoing_allow=(allowed,))
    action_outgoing_policy(off).check_address(host, private)


@asynccontextmanager
async def receiving(
    status: int = 200, text: str = "done", **headers: str
) -> AsyncIterator[tuple[int, list[dict[str, str]]]]:
    """A receiver on 127.0.0.1: its port, and the headers of each request."""
    received: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        received.append(dict(request.headers))
        return web.Response(status=status, text=text, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    bound = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, bound).start()
    try:
        yield bound.getsockname()[1], received
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433"])
async def test_the_address_that_is_connected_to_is_checked(host: str) -> None:
    async with receiving() as (port, received), GuardedClient(CLOSED) as client:
        with pytest.raises((BadDataError, aiohttp.ClientError, OSError)):
            async with client.request("POST", f"http://{host}:{port}/"):
                pass
    assert received == []


class Rebinding(AbstractResolver):
    """A name that leads to a public address first, and then to this machine."""

    def __init__(self) -> None:
        self.answers = ["192.0.2.1", "127.0.0.1"]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.answers.pop(0)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass


async def test_a_name_that_leads_elsewhere_the_next_time_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = Rebinding()
    monkeypatch.setattr("promcompat.outgoing.client.NameResolver", lambda: resolver)
    policy = OutgoingPolicy(furthest=Place.PUBLIC)
    async with receiving() as (port, received), GuardedClient(policy) as client:
        while resolver.answers:
            with pytest.raises(aiohttp.ClientError, match=r"PROMCOMPAT_OUTGOING_ALLOW"):
                async with client.request("GET", f"http://moving.example:{port}/"):
                    pass
            assert client._session is not None
            client._session.connector.clear_dns_cache()
    assert received == []


async def test_names_that_are_not_found_in_time_keep_no_other_work_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def never(*_: object, **__: object) -> list[object]:
        answered.wait(30)
        raise socket.gaierror("name server gone")

    async def call(client: GuardedClient, number: int) -> None:
        async with client.request("GET", f"http://host-{number}.example/"):
            pass

    monkeypatch.setattr("socket.getaddrinfo", never)
    async with GuardedClient() as client:
        calls = [asyncio.create_task(call(client, number)) for number in range(100)]
        await asyncio.sleep(0.1)
        try:
            assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 5) == "done"
        finally:
            answered.set()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, aiohttp.ClientError) for outcome in outcomes)


@pytest.mark.parametrize("name", ["a..b", "a" * 300])
async def test_what_can_be_no_name_is_a_host_that_is_not_found(name: str) -> None:
    async with GuardedClient() as client:
        with pytest.raises(aiohttp.ClientError, match="cannot be the name of a host"):
            async with client.request("GET", f"http://{name}/"):
                pass


async def test_hosts_that_do_not_answer_leave_connections_for_others() -> None:
    released = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    async def call(client: GuardedClient, port: int) -> int:
        async with client.request("POST", f"http://127.0.0.1:{port}/") as response:
            return response.status

    silent = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with silent, receiving() as (port, _), GuardedClient() as client:
        silent_port = silent.sockets[0].getsockname()[1]
        calls = [asyncio.create_task(call(client, silent_port)) for _ in range(150)]
        await asyncio.sleep(0.1)
        try:
            assert await asyncio.wait_for(call(client, port), 5) == 200
        finally:
            released.set()
            await asyncio.gather(*calls, return_exceptions=True)


async def test_redirects_of_receivers_are_not_followed() -> None:
    async with receiving(307, Location="/elsewhere") as (port, received):
        url = f"http://127.0.0.1:{port}/"
        async with GuardedClient() as client, client.request("POST", url) as response:
            assert response.status == 307
        assert len(received) == 1


async def test_scraping_follows_redirects_on_its_host_only() -> None:
    async with receiving() as (other, received):
        target = f"http://localhost:{other}/metrics"
        async with receiving(302, Location=target) as (port, _), HttpFetcher(PLAIN, 5) as fetcher:
            with pytest.raises(FetchError, match=f"another host, localhost:{other}"):
                await fetcher.get(f"http://127.0.0.1:{port}/metrics", {}, 0)
        async with receiving(302, Location="/loop") as (port, asked):
            async with HttpFetcher(PLAIN, 5) as fetcher:
                with pytest.raises(FetchError, match="stopped after 10 redirects"):
                    await fetcher.get(f"http://127.0.0.1:{port}/metrics", {}, 0)
            assert len(asked) == 10
    assert received == []


SECRET = "s3cr3t-of-pager"


def secrets_in(folder: Path, host: str = "127.0.0.1") -> NamedSecrets:
    file = folder / "pager"
    file.write_text(f"Bearer {SECRET}\n")
    return NamedSecrets({"pager": SecretSource(file=file, hosts=(host,))})


async def test_a_secret_goes_to_its_host_and_is_shown_nowhere(tmp_path: Path) -> None:
    secrets = secrets_in(tmp_path)
    async with receiving(500, f"you sent Bearer {SECRET}") as (port, received):
        url = f"http://127.0.0.1:{port}/hook"
        sender, headers = HttpSender(), SecretHeaders(secrets, {"Authorization": "pager"})
        with pytest.raises(NotificationError, match="answered 500: you sent <hidden>"):
            await sender.post(Target(url, headers, is_path_secret=True), {}, {})
        (tmp_path / "pager").write_text("Bearer another-one")
        with pytest.raises(NotificationError):
            await sender.post(Target(url, headers, is_path_secret=True), {}, {})
        await sender.close()
        sent = [request["Authorization"] for request in received]
        assert sent == [f"Bearer {SECRET}", "Bearer another-one"]


async def test_an_answer_that_is_cut_within_a_secret_does_not_show_a_part(tmp_path: Path) -> None:
    secrets = secrets_in(tmp_path)
    text = "x" * 180 + f" Bearer {SECRET}"
    async with receiving(500, text) as (port, _):
        headers = SecretHeaders(secrets, {"Authorization": "pager"})
        target = Target(f"http://127.0.0.1:{port}/", headers, is_path_secret=True)
        sender = HttpSender()
        with pytest.raises(NotificationError) as caught:
            await sender.post(target, {}, {})
        await sender.close()
        assert str(caught.value).endswith("x <hidd")
    text = "x" * ((1 << 16) - 12) + f" Bearer {SECRET}" + "y" * 100
    async with receiving(text=text) as (port, _):
        used = {"secret_headers": {"Authorization": "pager"}}
        detail = await run_action(port, ActionPolicy(secrets=secrets), **used)
        assert SECRET[:3] not in detail["body"]


def test_hosts_of_a_secret_may_be_in_capitals(tmp_path: Path) -> None:
    secrets_in(tmp_path, "Pager.Example").check("pager", "https://pager.example/x")


async def test_no_other_host_gets_a_secret(tmp_path: Path) -> None:
    headers = SecretHeaders(secrets_in(tmp_path, "pager.example"), {"Authorization": "pager"})
    async with receiving() as (port, received):
        sender, url = HttpSender(), f"http://127.0.0.1:{port}/hook"
        with pytest.raises(NotificationError, match="may not be sent to this host"):
            await sender.post(Target(url, headers, is_path_secret=True), {}, {})
        await sender.close()
    assert received == []


async def run_action(port: int, policy: ActionPolicy, **fields: Any) -> Any:
    unused: Any = None
    async with GuardedClient(policy.outgoing) as client:
        action = HttpAction(type="http", url=f"http://127.0.0.1:{port}/", **fields)
        runner = ActionRunner(client, policy, unused)
        return await runner.run(StepKey("workflow", "action", 1), action)


async def test_receivers_see_who_calls_unless_a_header_says_otherwise() -> None:
    async with receiving() as (port, received):
        await run_action(port, ActionPolicy())
        await run_action(port, ActionPolicy(), headers={"user-agent": "mine"})
    assert [
        [value for name, value in request.items() if name.lower() == "user-agent"]
        for request in received
    ] == [
        [f"promcompat/{promcompat_version()}"],
        ["mine"],
    ]


async def test_an_action_records_what_the_setting_allows(tmp_path: Path) -> None:
    secrets = secrets_in(tmp_path)
    async with receiving(text=f"0123456789 Bearer {SECRET}") as (port, received):
        used = {"secret_headers": {"Authorization": "pager"}}
        detail = await run_action(port, ActionPolicy(secrets=secrets), **used)
        assert detail == {"status": 200, "body": "0123456789 <hidden>"}
        assert received[0]["Authorization"] == f"Bearer {SECRET}"
        few = ActionPolicy(secrets=secrets, max_recorded_characters=8)
        assert (await run_action(port, few, **used))["body"] == "<hidden>"
        none = ActionPolicy(max_recorded_characters=0)
        assert (await run_action(port, none))["body"] == ""


def test_a_secret_that_is_missing_is_an_error_without_it(tmp_path: Path) -> None:
    file = tmp_path / "many"
    file.write_text(f"{SECRET}\n{SECRET}\n")
    secrets = NamedSecrets(
        {
            "many": SecretSource(file=file, hosts=("h",)),
            "none": SecretSource(variable="NO_SUCH_VARIABLE_AT_ALL", hosts=("h",)),
        }
    )
    for name in secrets.sources:
        with pytest.raises(SecretUnavailableError) as caught:
            secrets.headers({"A": name}, "http://h/")
        assert SECRET not in str(caught.value)
    with pytest.raises(BadDataError, match="no secret named x"):
        secrets.headers({"A": "x"}, "http://h/")


def test_settings_show_names_of_secrets_and_logs_hide_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_PAGER", SECRET)
    settings = GivenSettings(
        secrets='{"pager": {"env": "OF_PAGER", "hosts": ["pager.example"]}}',
        webhook_headers="Authorization=pager",
    )
    assert public_values(settings)["secrets"] == "pager"
    assert SECRET in secrets_of(settings)


@pytest.mark.parametrize("value", ["a\nSet-Cookie: b", "a\rb", "a\0b"])
async def test_an_action_with_a_header_that_cannot_be_sent_is_refused(value: str) -> None:
    async with receiving() as (port, received):
        with pytest.raises(BadDataError, match="the request cannot be sent"):
            await run_action(port, ActionPolicy(), headers={"X-Host": value})
    assert received == []


async def test_the_key_of_a_step_is_the_one_that_receivers_see() -> None:
    async with receiving() as (port, received):
        await run_action(port, ActionPolicy(), headers={"idempotency-key": "another"})
    (request,) = received
    keys = [value for name, value in request.items() if name.lower() == "idempotency-key"]
    assert keys == ["workflow:action:1"]


@pytest.mark.parametrize(("n_parts", "limit"), [(3, "10s"), (1000, "500ms")])
async def test_an_answer_that_comes_in_parts_is_recorded_as_far_as_it_has_come(
    n_parts: int, limit: str
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(n_parts):
            await response.write(f"part {number};".encode())
            await asyncio.sleep(0.05)
        return response

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        assert server.port is not None
        detail = await run_action(server.port, ActionPolicy(), timeout=limit)
    assert detail["status"] == 200
    assert detail["body"].startswith("part 0;part 1;part 2;")
