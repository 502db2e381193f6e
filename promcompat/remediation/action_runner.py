"""Does one action: an HTTP request, an allowed command, an allowed function of the database."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, assert_never

import aiohttp

from promcompat.core.errors import BadDataError, ExecutionError
from promcompat.core.remediation import RemediationJournal, StepKey
from promcompat.remediation.action_policy import ActionPolicy
from promcompat.remediation.plans import CommandAction, HttpAction, SqlAction

IDEMPOTENCY_HEADER = "Idempotency-Key"
IDEMPOTENCY_VARIABLE = "IDEMPOTENCY_KEY"
MAX_RECORDED_CHARACTERS = 4000

_MAX_READ_BYTES = 1 << 16
_RETRIED_STATUSES = frozenset({408, 425, 429})


class ActionFailedError(ExecutionError):
    """The action did not work this time; another try may."""


class ActionRunner:
    """Does actions under a policy.

    A command or an HTTP request is done at least once: a worker that dies after the effect and
    before its record does it again, with the same idempotency key. A function of the database is
    called exactly once, as its effect and its record are one transaction.
    """

    def __init__(
        self, session: aiohttp.ClientSession, policy: ActionPolicy, journal: RemediationJournal
    ) -> None:
        self._session = session
        self._policy = policy
        self._journal = journal

    async def run(
        self, key: StepKey, action: HttpAction | CommandAction | SqlAction
    ) -> Mapping[str, Any]:
        """Do the action and return what to record of it.

        Raises BadDataError for what the policy forbids and for a refusal (HTTP 3xx and 4xx),
        ActionFailedError for what may work the next time.
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
        headers = {**action.headers, IDEMPOTENCY_HEADER: key.idempotency_key}
        try:
            async with self._session.request(
                action.method,
                action.url,
                json=action.body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=action.timeout / 1000),
            ) as response:
                body = await response.content.read(_MAX_READ_BYTES)
                status = response.status
        except TimeoutError as exc:
            raise ActionFailedError(f"no answer within {action.timeout} ms") from exc
        except aiohttp.InvalidURL as exc:
            raise BadDataError("the URL is not valid") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ActionFailedError(f"no answer: {exc}") from exc
        detail = {"status": status, "body": _recorded(body)}
        if 200 <= status < 300:
            return detail
        if status >= 500 or status in _RETRIED_STATUSES:
            raise ActionFailedError(f"answered {status}: {detail['body']}")
        raise BadDataError(f"answered {status}: {detail['body']}")

    async def _run_command(self, key: StepKey, action: CommandAction) -> Mapping[str, Any]:
        command = self._policy.command_line(action.name, action.arguments)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_command_environment(key),
                start_new_session=True,
            )
        except OSError as exc:
            raise BadDataError(f"the command {action.name} cannot be run: {exc}") from exc
        try:
            async with asyncio.timeout(action.timeout / 1000):
                output, exit_code = await _output_of(process)
        except TimeoutError as exc:
            raise ActionFailedError(f"took longer than {action.timeout} ms and was ended") from exc
        finally:
            await _end_group(process)
        if exit_code:
            raise ActionFailedError(f"exit code {exit_code}: {_recorded(output)}")
        return {"command": action.name, "exit_code": exit_code, "output": _recorded(output)}

    async def _call_function(self, key: StepKey, action: SqlAction) -> Mapping[str, Any]:
        self._policy.check_function(action.function)
        try:
            step = await self._journal.call_function(
                key, action.function, action.argument, action.timeout / 1000
            )
        except ExecutionError as exc:
            raise ActionFailedError(str(exc)) from exc
        return step.detail


async def _output_of(process: asyncio.subprocess.Process) -> tuple[bytes, int]:
    """The end of the output, and the exit code; whatever more it writes is read and dropped."""
    assert process.stdout is not None, "opened with a pipe"
    output = b""
    while chunk := await process.stdout.read(_MAX_READ_BYTES):
        output = (output + chunk)[-_MAX_READ_BYTES:]
    return output, await process.wait()


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """Kill what the command left running: nothing of it outlives its step."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _command_environment(key: StepKey) -> dict[str, str]:
    """Ours without our settings, among which are passwords."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PROMCOMPAT_")}
    return kept | {IDEMPOTENCY_VARIABLE: key.idempotency_key}


def _recorded(output: bytes) -> str:
    """The end of an output as text: that is where commands say what went wrong."""
    return output.decode(errors="replace")[-MAX_RECORDED_CHARACTERS:].replace("\0", "")
