"""A week in virtual time: alerts flap, are silenced and relabelled while processes come and go.

Two processes share the work on a real PostgreSQL and serve an Alertmanager and three webhooks over
HTTP: one healthy, one slow, one that refuses everything. A model that knows only the values, the
silences and the rule says what the healthy ones must hear.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from promcompat.alerting.deliveries import Notifier
from promcompat.alerting.senders import AlertmanagerNotifier, HttpSender, WebhookNotifier
from promcompat.core.alerting.alerts import Rule, Silence
from promcompat.core.model import Labels
from tests.support.factories import make_batch, make_labels
from tests.support.services.alerting import (
    NOW_MS,
    TENANT,
    AlertingFixture,
    Clock,
    make_rule,
    running_alerting,
)

pytestmark = pytest.mark.integration

MINUTE = 60_000
WEEK = 7 * 24 * 60 * MINUTE
RESOLVED_FOR = 15 * MINUTE
HOSTS = ("a", "b", "c", "d")
SILENCED_HOST = "d"
N_STEPS = 120

LabelSet: TypeAlias = tuple[str, str]
"""Host and team of an alert."""
Told: TypeAlias = tuple[str, int]
"""`firing` and when it began, or `resolved` and when it ended, in Unix ms."""


@dataclass
class Receiver:
    """An HTTP receiver that keeps what it took, and when."""

    clock: Clock
    delay_seconds: float = 0.0
    status: int = 200
    requests: list[tuple[str, Any, int]] = field(default_factory=list)
    freezes: bool = False
    frozen: asyncio.Event = field(default_factory=asyncio.Event)
    thawed: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        """Take a request, or freeze after having taken it: its sender dies meanwhile."""
        body = await request.json()
        if self.status == 200:
            key = request.headers.get("Idempotency-Key", "")
            self.requests.append((key, body, self.clock.now_ms))
        if self.freezes:
            self.frozen.set()
            await self.thawed.wait()
        await asyncio.sleep(self.delay_seconds)
        return web.Response(status=self.status, text="not taken" if self.status != 200 else "")

    def steps(self) -> dict[LabelSet, list[Told]]:
        """What a webhook was told of each label set; a repetition under the same key is one."""
        found: defaultdict[LabelSet, list[Told]] = defaultdict(list)
        for body in {key: body for key, body, _ in self.requests}.values():
            alert = body["alert"]
            moment = alert["fired_at"] if body["status"] == "firing" else alert["resolved_at"]
            found[_label_set(alert["labels"])].append((body["status"], _unix_ms(moment)))
        return dict(found)

    def changes(self) -> dict[LabelSet, list[Told]]:
        """What an Alertmanager was told of each label set; equal news in a row are one."""
        found: defaultdict[LabelSet, list[Told]] = defaultdict(list)
        for _, body, at_ms in self.requests:
            for alert in body:
                told = found[_label_set(alert["labels"])]
                if (change := _change_of(alert, at_ms)) not in told[-1:]:
                    told.append(change)
        return dict(found)


def _label_set(labels: dict[str, str]) -> LabelSet:
    return labels["host"], labels["team"]


def _unix_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _change_of(alert: dict[str, Any], at_ms: int) -> Told:
    """A firing alert ends four minutes after it was told of; one that has ended did so before."""
    starts_ms, ends_ms = _unix_ms(alert["startsAt"]), _unix_ms(alert["endsAt"])
    is_firing = ends_ms > at_ms
    return ("firing", starts_ms) if is_firing else ("resolved", ends_ms)


@dataclass
class Model:
    """What should be told, from nothing but values, silences and the rule's team."""

    firing: dict[LabelSet, int] = field(default_factory=dict)
    steps: defaultdict[LabelSet, list[Told]] = field(default_factory=lambda: defaultdict(list))
    waiting: defaultdict[LabelSet, list[Told]] = field(default_factory=lambda: defaultdict(list))
    changes: defaultdict[LabelSet, list[Told]] = field(default_factory=lambda: defaultdict(list))
    ended: dict[LabelSet, int] = field(default_factory=dict)

    def evaluate(self, high: set[LabelSet], at_ms: int) -> None:
        """The alerts after an evaluation."""
        for label_set in self.firing.keys() - high:
            del self.firing[label_set]
            self.ended[label_set] = at_ms
            self.waiting[label_set].append(("resolved", at_ms))
        for label_set in high - self.firing.keys():
            self.firing[label_set] = at_ms
            self.waiting[label_set].append(("firing", at_ms))

    def deliver(self, silenced_hosts: set[str], now_ms: int) -> None:
        """What receivers hear now."""
        for label_set in self.waiting.keys() | self.firing.keys() | self.ended.keys():
            if label_set[0] in silenced_hosts:
                self._drop_unheard(label_set)
            else:
                self.steps[label_set] += self.waiting.pop(label_set, [])
                self._tell_change(label_set, now_ms)

    def _drop_unheard(self, label_set: LabelSet) -> None:
        """Of alerts that came and went in a silence nobody hears."""
        kept: list[Told] = []
        for step in self.waiting[label_set]:
            if step[0] == "resolved" and kept and kept[-1][0] == "firing":
                kept.pop()
            else:
                kept.append(step)
        self.waiting[label_set] = kept

    def _tell_change(self, label_set: LabelSet, now_ms: int) -> None:
        told = self.changes[label_set]
        if label_set in self.firing:
            change = ("firing", self.firing[label_set])
        elif told and told[-1][0] == "firing" and now_ms - self.ended[label_set] <= RESOLVED_FOR:
            change = ("resolved", self.ended[label_set])
        else:
            return
        if change not in told[-1:]:
            told.append(change)


@dataclass
class Week:
    """The two processes, their receivers and what happens to them."""

    url: str
    clock: Clock
    chance: random.Random
    receivers: dict[str, Receiver]
    notifiers: dict[str, Notifier]
    model: Model = field(default_factory=Model)
    processes: list[AlertingFixture] = field(default_factory=list)
    stacks: list[AsyncExitStack] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    slow_work: asyncio.Task[None] | None = None
    n_crashes: int = 0

    async def start_process(self, place: int) -> None:
        """Start a process, or one in the place of another that ends."""
        stack = AsyncExitStack()
        names = [notifier.name for notifier in self.notifiers.values()]
        process = await stack.enter_async_context(
            running_alerting(self.url, clock=self.clock, webhooks=names[1:])
        )
        if place < len(self.processes):
            await self.stacks[place].aclose()
            self.processes[place], self.stacks[place] = process, stack
        else:
            self.processes.append(process)
            self.stacks.append(stack)

    async def step(self, values: dict[str, float], team: str) -> None:
        """Write the values of now, evaluate in both processes, and let the model do the same."""
        await self.processes[0].metrics.write(
            TENANT,
            make_batch(
                {make_labels("m", host=h): [(self.clock.now_ms, v)] for h, v in values.items()}
            ),
        )
        self.clock.now_ms += MINUTE + 5_000
        await asyncio.gather(*(process.evaluator.run_due() for process in self.processes))
        (evaluation,) = (await self.rule_evaluations()).values()
        high = {(host, team) for host, value in values.items() if value > 5}
        self.model.evaluate(high, evaluation)

    async def rule_evaluations(self) -> dict[str, int]:
        """When each rule was evaluated."""
        groups = await self.processes[0].rules.groups(TENANT)
        return {
            status.rule.name: status.evaluation.evaluated_at_ms
            for group in groups
            for status in group.rules
            if status.evaluation
        }

    async def deliver(self) -> None:
        """Both processes serve every receiver; nobody waits for the slow one."""
        await asyncio.gather(*map(self.deliver_by, self.processes))
        if self.slow_work is None or self.slow_work.done():
            slow = self.processes[1].steps.deliver(self.notifiers["slow"])
            self.slow_work = asyncio.create_task(slow)
        self.model.deliver(self.silenced_hosts(), self.clock.now_ms)

    async def deliver_by(self, process: AlertingFixture) -> None:
        """What the loops of one process do, but for the slow receiver."""
        await asyncio.gather(
            process.state_changes.deliver(self.notifiers["alertmanager"]),
            process.steps.deliver(self.notifiers["healthy"]),
            process.steps.deliver(self.notifiers["refusing"]),
        )

    async def crash(self, receiver: Receiver) -> None:
        """A process dies after a receiver took a request and before that is recorded."""
        receiver.freezes = True
        receiver.frozen.clear()
        receiver.thawed.clear()
        sending = asyncio.create_task(self.deliver_by(self.processes[0]))
        freezing = asyncio.create_task(receiver.frozen.wait())
        await asyncio.wait({sending, freezing}, return_when=asyncio.FIRST_COMPLETED)
        receiver.freezes = False
        self.n_crashes += receiver.frozen.is_set()
        for task in (sending, freezing):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        receiver.thawed.set()
        await self.start_process(0)
        self.clock.now_ms += 20_000  # The lease of the dead process ends.

    async def silence(self, length_ms: int) -> None:
        """Silence one host from a minute ahead on."""
        silence = Silence(
            id=0,
            labels=Labels.of({"host": SILENCED_HOST}),
            reason="work",
            created_by="ana",
            starts_at_ms=self.clock.now_ms + MINUTE,
            ends_at_ms=self.clock.now_ms + MINUTE + length_ms,
        )
        self.silences.append(await self.processes[0].silences.create(TENANT, silence))

    async def pass_time(self, pause_ms: int) -> None:
        """Let time pass; receivers hear what a silence that ends meanwhile kept from them."""
        until_ms = self.clock.now_ms + pause_ms
        for ends_ms in sorted(silence.ends_at_ms for silence in self.silences):
            if self.clock.now_ms < ends_ms < until_ms:
                self.clock.now_ms = ends_ms + 5_000
                await self.deliver()
        self.clock.now_ms = max(until_ms, self.clock.now_ms)

    def silenced_hosts(self) -> set[str]:
        """The hosts that are silenced now."""
        now_ms = self.clock.now_ms
        return {SILENCED_HOST for silence in self.silences if silence.is_active(now_ms)}


@asynccontextmanager
async def running_week(url: str) -> AsyncIterator[Week]:
    """Two processes with receivers that answer over HTTP."""
    clock = Clock()
    receivers = {
        "alertmanager": Receiver(clock),
        "healthy": Receiver(clock),
        "slow": Receiver(clock, delay_seconds=0.02),
        "refusing": Receiver(clock, status=400),
    }
    app, sender = web.Application(), HttpSender()
    app.router.add_post("/api/v2/alerts", receivers["alertmanager"].handle)
    for name in ("healthy", "slow", "refusing"):
        app.router.add_post(f"/{name}", receivers[name].handle)
    async with TestServer(app) as server:
        base = str(server.make_url("")).rstrip("/")
        notifiers: dict[str, Notifier] = {
            "alertmanager": AlertmanagerNotifier(sender, base, base, has_tenants=False)
        }
        for name in ("healthy", "slow", "refusing"):
            notifiers[name] = WebhookNotifier(sender, f"{base}/{name}", base)
        week = Week(url, clock, random.Random(9), receivers, notifiers)
        try:
            for place in range(2):
                await week.start_process(place)
            yield week
        finally:
            if week.slow_work is not None:
                await week.slow_work
            for stack in week.stacks:
                await stack.aclose()
            await sender.close()


async def live_through(week: Week, rule: Rule) -> None:
    """Everything that happens in the week."""
    values = dict.fromkeys(HOSTS, 1.0)
    team = "x"
    for number in range(N_STEPS):
        # Two of three pauses are short, so that alerts fire again within 15 minutes.
        pause = week.chance.choice((3, 7, 260))
        await week.pass_time(pause * MINUTE)
        for host in week.chance.sample(HOSTS, week.chance.randint(0, 3)):
            values[host] = 11.0 - values[host]
        if number % 40 == 30:
            team = "y" if team == "x" else "x"
            rule = await week.processes[1].rules.replace(
                TENANT, replace(rule, labels={"team": team})
            )
        if number % 25 == 20:
            await week.silence(week.chance.choice((20, 300)) * MINUTE)
        await week.step(values, team)
        if number % 35 == 10:  # A restart between the commit and the deliveries.
            await week.start_process(number % 2)
        if number % 30 == 5:
            receiver = week.chance.choice(("alertmanager", "healthy"))
            await week.crash(week.receivers[receiver])
        await week.deliver()


async def test_healthy_receivers_hear_each_transition_of_a_week_once_and_in_order(
    plain_database_url: str,
) -> None:
    async with running_week(plain_database_url) as week:
        first = week.processes[0]
        rule = make_rule(labels={"team": "x"}, interval_ms=MINUTE)
        rule = await first.rules.create(TENANT, rule)
        await live_through(week, rule)
        week.clock.now_ms += 24 * 60 * MINUTE
        await week.deliver()
        assert week.clock.now_ms - NOW_MS > WEEK
        healthy, alertmanager = week.receivers["healthy"], week.receivers["alertmanager"]
        expected = {label_set: told for label_set, told in week.model.steps.items() if told}
        assert sum(map(len, expected.values())) > N_STEPS
        assert healthy.steps() == expected
        changes = {label_set: told for label_set, told in week.model.changes.items() if told}
        assert alertmanager.changes() == changes
        check_repetitions(week)
        await check_slow_and_refusing(week)


def check_repetitions(week: Week) -> None:
    """A crash repeats what was in flight, unchanged; nothing else is sent twice."""
    bodies: defaultdict[str, list[Any]] = defaultdict(list)
    for key, body, _ in week.receivers["healthy"].requests:
        bodies[key].append(body)
    repeated = [told for told in bodies.values() if len(told) > 1]
    assert all(told == [told[0]] * 2 for told in repeated)
    assert week.n_crashes >= 2
    assert len(repeated) <= 8 * week.n_crashes


async def check_slow_and_refusing(week: Week) -> None:
    """The slow one hears of everything that is not outdated, in order; the other of nothing."""
    for _ in range(20):
        assert week.slow_work is not None
        await week.slow_work
        week.clock.now_ms += MINUTE
        await week.deliver()
    slow = week.receivers["slow"].steps()
    for label_set, expected in week.model.steps.items():
        if label_set[0] == SILENCED_HOST:
            continue  # It may not have been served while a silence held.
        told = slow.get(label_set, [])
        assert [step for step in expected if step in told] == told
        assert {step for step in expected if step[0] == "resolved"} <= set(told)
    assert week.receivers["refusing"].requests == []
    found = await week.processes[0].listed()
    histories = [await week.processes[0].alerts.history(TENANT, alert.id) for alert in found[-9:]]
    name = week.notifiers["refusing"].name
    assert f"notification to {name} given up after 1h: answered 400: not taken" in {
        step.note for steps in histories for step in steps
    }
