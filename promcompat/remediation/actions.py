"""What actions may touch, and how an action is done: an HTTP request, a command or a function.

An action only names things; the operator's allow lists say what the names stand for.
"""

import asyncio
import os
import re
import signal
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, assert_never

import aiohttp
from multidict import CIMultiDict

from promcompat.core.alerting.remediation import RemediationJournal, StepKey
from promcompat.core.errors import BadDataError, ExecutionError
from promcompat.core.texts.connection_faults import connection_fault
from promcompat.core.texts.secrets import Redactor
from promcompat.outgoing.addresses import is_in
from promcompat.outgoing.client import GuardedClient
from promcompat.outgoing.policy import ANYWHERE, AllowList, OutgoingPolicy, host_of
from promcompat.outgoing.secrets import NO_SECRETS, NamedSecrets
from promcompat.remediation.plans import CommandAction, HttpAction, SqlAction

IDEMPOTENCY_HEADER = "Idempotency-Key"
IDEMPOTENCY_VARIABLE = "IDEMPOTENCY_KEY"
MAX_RECORDED_CHARACTERS = 4000

_MAX_READ_BYTES = 1 << 16
_RETRIED_STATUSES = frozenset({408, 425, 429})
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPolicy:
    """Allow lists. Commands and functions that are not listed cannot run.

    `commands` maps a name to an argv whose elements may hold `{placeholder}`s. `http_hosts` are
    `host`, `host:port`, `*.domain` or networks; empty allows every host that `outgoing` allows.
    `sql_functions` are names of functions of one jsonb, with their schema where that is not on the
    search path. `secrets` may be headers of requests. Of what an action answers or prints, the last
    `max_recorded_characters` are recorded.
    """

    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    http_hosts: frozenset[str] = frozenset()
    sql_functions: frozenset[str] = frozenset()
    outgoing: OutgoingPolicy = ANYWHERE
    secrets: NamedSecrets = NO_SECRETS
    max_recorded_characters: int = MAX_RECORDED_CHARACTERS

    def check_url(self, url: str) -> None:
        """Raises BadDataError unless `url` is HTTP to an allowed host."""
        host = host_of(url)
        listed = AllowList.of(self.http_hosts)
        is_listed = listed.names(host) or (
            host.address is not None and is_in(host.address, listed.networks)
        )
        if self.http_hosts and not is_listed:
            raise BadDataError(f"the host {host.name}:{host.port} is not allowed")
        self.outgoing.check_url(url)

    def check_secrets(self, headers: Mapping[str, str]) -> None:
        """Raises BadDataError for a secret that is not there."""
        for name in headers.values():
            self.secrets.check(name)

    def check_function(self, name: str) -> None:
        """Raises BadDataError unless the function is allowed."""
        if name not in self.sql_functions:
            raise BadDataError(f"the SQL function {name} is not allowed")

    def command_line(self, name: str, arguments: Mapping[str, str]) -> list[str]:
        """The argv of an allowed command with its placeholders filled; no shell is involved.

        No value may make an element begin with `-`, as it would become an option of the command.
        Raises BadDataError for an unknown name, a missing or unused argument, or such a value.
        """
        template = self.commands.get(name)
        if template is None:
            raise BadDataError(f"the command {name} is not allowed")
        wanted = {key for element in template for key in _PLACEHOLDER.findall(element)}
        if wanted != set(arguments):
            takes = f"the arguments {', '.join(sorted(wanted))}" if wanted else "no arguments"
            raise BadDataError(f"the command {name} takes exactly {takes}")
        return [_fill(element, arguments) for element in template]


def _fill(element: str, arguments: Mapping[str, str]) -> str:
    filled = _PLACEHOLDER.sub(lambda found: arguments[found[1]], element)
    if "\0" in filled or (filled.startswith("-") and not element.startswith("-")):
        raise BadDataError(f"an argument in {element} must not begin with - or contain NUL")
    return filled


class ActionFailedError(ExecutionError):
    """The action failed; another try may succeed."""


class ActionRunner:
    """Runs actions under a policy.

    A command or an HTTP request runs at least once: if a worker dies after the effect and before it
    is recorded, the action runs again with the same idempotency key. A function of the database is
    called exactly once, as its effect and its record are one transaction.
    """

    def __init__(
        self, client: GuardedClient, policy: ActionPolicy, journal: RemediationJournal
    ) -> None:
        """`client` enforces the outgoing part of `policy`."""
        self._client = client
        self._policy = policy
        self._journal = journal

    async def run(
        self, key: StepKey, action: HttpAction | CommandAction | SqlAction
    ) -> Mapping[str, Any]:
        """Run the action and return the details to record.

        Raises BadDataError for what the policy forbids and for a refusal (HTTP 3xx and 4xx), and
        ActionFailedError for what may succeed the next time.
        """
        match action:
            case HttpAction():
                return await self._request(key, action)
            case CommandAction():
                return await self._run_command(key, action)
            case SqlAction():
                return await self._call_function(key, action)
            case _:
                assert_never(action)

    async def _request(self, key: StepKey, action: HttpAction) -> Mapping[str, Any]:
        self._policy.check_url(action.url)
        secret = self._policy.secrets.headers(action.secret_headers, action.url)
        headers = CIMultiDict(action.headers)
        headers.update({**secret, IDEMPOTENCY_HEADER: key.idempotency_key})
        redactor = Redactor(secret.values())
        try:
            async with self._client.request(
                action.method,
                action.url,
                json=action.body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=action.timeout / 1000),
            ) as response:
                body = await _beginning_of(response.content)
                text = redactor.hide_bytes(body, is_cut=not response.content.at_eof())
                status = response.status
        except TimeoutError as exc:
            raise ActionFailedError(f"no response within {action.timeout} ms") from exc
        except aiohttp.InvalidURL as exc:
            raise BadDataError("the URL is not valid") from exc
        except ValueError as exc:
            # A header with a line break, for example: the value of a label may have one.
            raise BadDataError(redactor.hide(f"the request cannot be sent: {exc}")) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ActionFailedError(redactor.hide(f"no response: {connection_fault(exc)}")) from exc
        detail = {"status": status, "body": self._recorded(text)}
        if 200 <= status < 300:
            return detail
        if status >= 500 or status in _RETRIED_STATUSES:
            raise ActionFailedError(f"answered {status}: {detail['body']}")
        raise BadDataError(f"answered {status}: {detail['body']}")

    def _recorded(self, text: str) -> str:
        """The end of an output, where commands report errors."""
        most = self._policy.max_recorded_characters
        return text.replace("\0", "")[-most:] if most else ""

    async def _run_command(self, key: StepKey, action: CommandAction) -> Mapping[str, Any]:
        command = self._policy.command_line(action.name, action.arguments)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_command_environment(key, self._policy.secrets.variables),
                start_new_session=True,
            )
        except OSError as exc:
            raise BadDataError(f"the command {action.name} cannot be run: {exc}") from exc
        try:
            async with asyncio.timeout(action.timeout / 1000):
                output, exit_code = await _output_of(process)
        except TimeoutError as exc:
            raise ActionFailedError(f"took longer than {action.timeout} ms and was killed") from exc
        finally:
            await _end_group(process)
        recorded = self._recorded(output.decode(errors="replace"))
        if exit_code:
            raise ActionFailedError(f"exit code {exit_code}: {recorded}")
        return {"command": action.name, "exit_code": exit_code, "output": recorded}

    async def _call_function(self, key: StepKey, action: SqlAction) -> Mapping[str, Any]:
        self._policy.check_function(action.function)
        try:
            step = await self._journal.call_function(
                key, action.function, action.argument, action.timeout / 1000
            )
        except ExecutionError as exc:
            raise ActionFailedError(str(exc)) from exc
        return step.detail


async def _beginning_of(content: aiohttp.StreamReader) -> bytes:
    """What an answer has sent when it ends, is long enough, or when the time of its request ends.

    The status has said by then whether the request succeeded.
    """
    body = b""
    with suppress(TimeoutError):
        while chunk := await content.read(_MAX_READ_BYTES - len(body)):
            body += chunk
    return body


async def _output_of(process: asyncio.subprocess.Process) -> tuple[bytes, int]:
    """The end of the output, and the exit code; earlier output is read and dropped."""
    assert process.stdout is not None, "opened with a pipe"
    output = b""
    while chunk := await process.stdout.read(_MAX_READ_BYTES):
        output = (output + chunk)[-_MAX_READ_BYTES:]
    return output, await process.wait()


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """Kill whatever the command left running, so that nothing outlives its step."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _command_environment(key: StepKey, secret: Collection[str]) -> dict[str, str]:
    """Our environment without our settings, which include passwords, and without secrets."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("PROMCOMPAT_") and name not in secret
    }
    return kept | {IDEMPOTENCY_VARIABLE: key.idempotency_key}
