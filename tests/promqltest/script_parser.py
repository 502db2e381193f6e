"""Reads scripts of Prometheus' test language, both of its generations.

The older one writes `eval_fail`, `eval_warn`, `eval_info`, `eval_ordered` and
`expected_fail_message`/`expected_fail_regexp`; the newer one writes `expect …` lines.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.promqltest.notation import (
    ScriptError,
    parse_duration_ms,
    parse_number,
    parse_series,
    parse_starts,
    unquote,
)
from tests.promqltest.script import (
    Case,
    Command,
    Eval,
    Expectation,
    ExpectedSeries,
    Load,
    Script,
    TextCheck,
)

_LOAD = re.compile(r"load(_with_nhcb)?\s+(.+)", re.IGNORECASE)
_INSTANT = re.compile(r"eval(?:_(\w+))?\s+instant\s+at\s+(\S+)\s+(.+)")
_RANGE = re.compile(r"eval(?:_(\w+))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)")
_EXPECT = re.compile(
    r"expect\s+(fail|warn|info|no_warn|no_info|ordered)(?:\s+(msg|regex):\s*(.*))?"
)
_EXPECT_RANGE = re.compile(r"expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)")
_EXPECT_STRING = re.compile(r"expect string\s+(.+)")
_EXPECTED_FAIL = re.compile(r"expected_fail_(message|regexp)\s+(.*)")

NumberedLines = list[tuple[int, str]]


def read_script(path: Path) -> Script:
    """Read a file; raises ScriptError with its name and the line."""
    try:
        return Script(path, parse_cases(path.read_text("utf-8")))
    except ScriptError as exc:
        raise ScriptError(f"{path.name}: {exc}") from exc


def parse_cases(text: str) -> tuple[Case, ...]:
    """The cases of a script; stretches without any command are left out."""
    cases: list[Case] = []
    commands: list[Command] = []
    first_line = 1
    for block in _blocks(text):
        while block:
            line, head = block[0]
            if head.split()[0].lower() == "clear":
                cases.append(Case(first_line, tuple(commands)))
                commands, first_line, block = [], line, block[1:]
                continue
            try:
                command, block = _parse_command(block)
            except ScriptError as exc:
                raise ScriptError(f"line {line}: {exc}") from exc
            commands.append(command)
    cases.append(Case(first_line, tuple(commands)))
    return tuple(case for case in cases if case.commands)


def _blocks(text: str) -> list[NumberedLines]:
    """The stretches between blank or comment lines, each line with its number."""
    blocks: list[NumberedLines] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            blocks[-1].append((number, stripped))
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _parse_command(block: NumberedLines) -> tuple[Command, NumberedLines]:
    """The command a block starts with, and what is left of the block."""
    line, head = block[0]
    word = head.split()[0].lower()
    if word.startswith("load"):
        return _parse_load(line, head, [text for _, text in block[1:]]), []
    if word.startswith("eval"):
        return _parse_eval(line, head, block[1:])
    raise ScriptError(f"unknown command {word!r}")


def _parse_load(line: int, head: str, series: Sequence[str]) -> Load:
    match = _LOAD.fullmatch(head)
    if match is None:
        raise ScriptError(f"bad load: {head!r}")
    starts = dict(filter(None, map(parse_starts, series)))
    values = (parse_series(text) for text in series if parse_starts(text) is None)
    parsed = {item.labels: item for item in values}
    interval_ms, with_nhcb = parse_duration_ms(match[2]), match[1] is not None
    return Load(line, interval_ms, with_nhcb, tuple(parsed.values()), starts)


def _parse_eval(line: int, head: str, rest: NumberedLines) -> tuple[Eval, NumberedLines]:
    kind, command = _parse_eval_head(line, head)
    expectation = command.expectation
    _expect_kind(expectation, kind)
    position = 0
    while rest:
        text = rest[0][1]
        rest = rest[1:]
        if match := _EXPECTED_FAIL.fullmatch(text):
            exact = match[1] == "message"
            expectation.failure = TextCheck(match[2]) if exact else TextCheck(None, match[2])
            break
        if match := _EXPECT_RANGE.fullmatch(text):
            start, end, step = map(parse_duration_ms, match.groups())
            # The query is asked at the end of the grid, whatever its `at` says, as upstream does.
            command = replace(
                command,
                time_ms=end,
                start_ms=start,
                end_ms=end,
                step_ms=step,
                expects_range_vector=True,
            )
        elif _parse_expect(text, expectation):
            continue
        elif _is_scalar(text):
            expectation.scalar = parse_number(text)
            break
        else:
            position += 1
            _expect_series(command, position, text)
    return command, rest


def _parse_eval_head(line: int, head: str) -> tuple[str | None, Eval]:
    instant, grid = _INSTANT.fullmatch(head), _RANGE.fullmatch(head)
    if instant is not None:
        kind, time, expr = instant.groups()
        start = end = parse_duration_ms(time)
        step = 0
    elif grid is not None:
        kind, first, last, interval, expr = grid.groups()
        start, end, step = map(parse_duration_ms, (first, last, interval))
    else:
        raise ScriptError(f"bad eval: {head!r}")
    command = Eval(
        line=line,
        expr=expr,
        is_range=instant is None,
        time_ms=end,
        start_ms=start,
        end_ms=end,
        step_ms=step,
        expects_range_vector=False,
        expectation=Expectation(),
    )
    return kind, command


def _expect_kind(expectation: Expectation, kind: str | None) -> None:
    match kind:
        case None:
            return
        case "fail":
            expectation.failure = TextCheck()
        case "warn":
            expectation.warnings = [TextCheck()]
        case "info":
            expectation.infos = [TextCheck()]
        case "ordered":
            expectation.is_ordered = True
        case _:
            raise ScriptError(f"unknown kind of eval: {kind!r}")


def _parse_expect(text: str, expectation: Expectation) -> bool:
    """Note an `expect` line; False when the line is something else."""
    if match := _EXPECT_STRING.fullmatch(text):
        expectation.string = unquote(match[1])
        return True
    # A metric named `expect` can still be written `expect{}`.
    if text.split(" ")[0] != "expect":
        return False
    match = _EXPECT.fullmatch(text)
    if match is None:
        raise ScriptError(f"bad expect: {text!r}")
    what, kind, detail = match.groups()
    check = TextCheck(
        detail.strip() if kind == "msg" else None, detail.strip() if kind == "regex" else None
    )
    _note_expect(expectation, what, check)
    return True


def _note_expect(expectation: Expectation, what: str, check: TextCheck) -> None:
    match what:
        case "fail":
            expectation.failure = check
        case "ordered":
            expectation.is_ordered = True
        case "warn":
            expectation.warnings = [*(expectation.warnings or []), check]
        case "info":
            expectation.infos = [*(expectation.infos or []), check]
        case "no_warn":
            expectation.warnings = []
        case "no_info":
            expectation.infos = []


def _is_scalar(text: str) -> bool:
    try:
        parse_number(text)
    except ScriptError:
        return False
    return True


def _expect_series(command: Eval, position: int, text: str) -> None:
    series = parse_series(text)
    several_allowed = command.is_range or command.expects_range_vector
    if len(series.values) > 1 and not several_allowed:
        raise ScriptError(f"more than one value for an instant eval: {text!r}")
    command.expectation.series[series.labels] = ExpectedSeries(position, series.values)
