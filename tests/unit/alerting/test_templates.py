"""Templates: what is not compared with promtool."""

import time
import tracemalloc
from dataclasses import replace

import pytest

from promcompat.alerting.templates.nodes import TemplateError, TemplateLimitError
from promcompat.alerting.templates.template import (
    QueryNeededError,
    TemplateData,
    check_template,
    expand_template,
)
from promcompat.core.model import Labels

DATA = TemplateData(
    alert_name="A",
    labels=Labels.of({"job": "api"}),
    value=2.5,
    now_ms=1_500,
    external_url="https://metrics.example.com/prom",
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{{ $value", "unclosed action"),
        ("{{ nope }}", 'function "nope" not defined'),
        ("{{ $nope }}", 'undefined variable "$nope"'),
        ("{{ if $value }}", "unexpected EOF"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ if }}x{{ end }}", "missing value for if"),
        ('{{ "open }}', "unterminated quoted string"),
        ("{{ 1 | 2 }}", "non executable command in pipeline stage 2"),
        ("{{ ($value }}", "unclosed left paren"),
        ("{{ break }}", "{{break}} outside {{range}}"),
        ("{{ 12x }}", 'bad number syntax: "12x"'),
        ("{{ # }}", "unrecognized character in action: U+0023 '#'"),
        ("{{/* x }}", "unclosed comment"),
        ("{{ " + "(" * 200 + "1" + ")" * 200 + " }}", "max expression depth exceeded"),
        ("{{ if 1 }}" * 200, "max expression depth exceeded"),
    ],
)
def test_a_text_that_is_no_template_is_refused(text: str, fault: str) -> None:
    with pytest.raises(TemplateError) as found:
        check_template("A", text)
    assert str(found.value) == f"error parsing template __alert_A: template: __alert_A:1: {fault}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ now }}", "1.5"),
        (
            "{{ toDuration 5400 }} {{ toDuration `-0.0015` }} {{ printf `%s` (toDuration 1e-9) }}",
            "1h30m0s -1.5ms 1ns",
        ),
        (
            "{{ toDuration 0 }} {{ toDuration 61.25 }} {{ toDuration `NaN` }}",
            "0s 1m1.25s -2562047h47m16.854775808s",
        ),
        ('{{ urlQueryEscape "a b&c~" }}', "a+b%26c~"),
        (
            "{{ externalURL }} {{ pathPrefix }} {{ $externalURL }}",
            f"{DATA.external_url} /prom {DATA.external_url}",
        ),
        ("no action }}", "no action }}"),
    ],
)
def test_templates_are_expanded(text: str, expected: str) -> None:
    check_template("A", text)
    assert expand_template(text, DATA) == expected


def test_a_query_is_asked_of_the_caller() -> None:
    with pytest.raises(QueryNeededError) as needed:
        expand_template('{{ query "up == 0" | first | value }}', DATA)
    assert needed.value.query == "up == 0"


DOUBLING = "{{ $x := `0123456789` }}{{ range 40 }}{{ $x = print $x $x }}{{ end }}"
MANY_WIDE = "{{ printf `" + "%1000000d" * 2_000 + "`" + " 1" * 2_000 + " }}"
NESTED = "{{ $x := 1 }}{{ range 30 }}{{ $x = args $x $x $x }}{{ end }}"


@pytest.mark.parametrize(
    "text",
    [
        "{{ range 100000000000 }}{{ end }}",
        "{{ range 100000000000 }}{{ if 0 }}{{ end }}{{ end }}",
        "{{ range 99999 }}{{ len (print (print 1) 2) }}{{ end }}",
        DOUBLING,
        DOUBLING.replace("print $x $x", "printf `%s%s` $x $x"),
        DOUBLING.replace("print $x $x", "html $x $x"),
        DOUBLING.replace("print $x $x", "reReplaceAll `$` $x $x"),
        DOUBLING.replace("print $x $x", "reReplaceAll `^.*$` `$0$0` $x"),
        NESTED + "{{ $x }}",
        NESTED + "{{ print $x }}",
        NESTED + "{{ printf `%v` $x }}",
        NESTED + "{{ printf `%d` $x }}",
        NESTED + "{{ len (js $x) }}",
        NESTED.replace("30", "50000").replace("$x $x $x", "$x") + "{{ $x }}",
        MANY_WIDE,
        "{{ printf `%*d` 1000000 1 | printf `%1000000s%s` `` }}",
        "{{ printf `%500000v` (args 1 2 3 4) }}",
        "{{ $x := printf `%1000000d` 1 }}" + "{{ $x = toUpper $x }}" * 20,
        "{{ $x := printf `%1000000d` 1 }}{{ print " + "$x " * 100 + "}}",
        "{{ $x := printf `%999000d` 1 }}{{ reReplaceAll ` ` `aa` $x }}",
        '{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}',
        "{{ range $a := 100000 }}{{ range $b := 100000 }}x{{ end }}{{ end }}",
        "{{ printf `%9999999d` 1 }}",
        "{{ printf `%999999d` 1 }}{{ printf `%999999d` 1 }}",
    ],
)
def test_a_template_cannot_take_everything(text: str) -> None:
    assert "error executing template __alert_A: " in outcome(text)


def outcome(text: str) -> str:
    """The text of a template, or why it was stopped."""
    try:
        return expand_template(text, DATA)
    except TemplateLimitError as exc:
        return str(exc)


@pytest.mark.parametrize("text", [DOUBLING, NESTED + "{{ print $x }}", MANY_WIDE])
def test_what_is_too_long_is_not_made(text: str) -> None:
    tracemalloc.start()
    assert "longer than 1048576 characters" in outcome(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{{ reReplaceAll `(x{1000}){100}` `` `x` }}", "expression too large"),
        ("{{ match `.{1000}.{1000}` `x` }}", "expression too large"),
        ("{{ match `" + "(" * 5_000 + "` `x` }}", "expression nests too deeply"),
        (r"{{ match `\C` `x` }}", r"invalid escape sequence: `\C`"),
        ("{{ humanize `0x1p99999` }}", "value out of range"),
        ("{{ humanizeTimestamp 1e300 }}", "overflows int64"),
    ],
)
def test_a_function_refuses_what_it_cannot_do(text: str, fault: str) -> None:
    expanded = expand_template(text, DATA)
    assert expanded.startswith("<error expanding template: ")
    assert fault in expanded


def test_a_template_stops_at_its_deadline() -> None:
    data = replace(DATA, deadline=time.monotonic() - 1)
    with pytest.raises(TemplateLimitError, match="takes too long"):
        expand_template("{{ range 1000 }}x{{ end }}", data)


def test_long_chains_of_else_are_refused() -> None:
    text = "{{ if 0 }}" + "{{ else if 0 }}" * 2_000 + "{{ end }}"
    with pytest.raises(TemplateError, match="max expression depth exceeded"):
        check_template("A", text)


def test_what_is_within_the_limits_is_expanded() -> None:
    assert len(expand_template("{{ range 10000 }}{{ . }} {{ end }}", DATA)) == 48_890
    assert len(expand_template("{{ printf `%500000d` 1 }}", DATA)) == 500_000
    assert expand_template("{{ reReplaceAll `a(.)` `$1$1` `abac` }}", DATA) == "bbcc"
    chain = "{{ if 0 }}" + "{{ else if 0 }}x" * 40 + "{{ else }}y{{ end }}"
    assert expand_template(chain, DATA) == "y"
