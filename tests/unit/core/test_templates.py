"""Templates: what is not compared with promtool."""

import pytest

from promcompat.core.model import Labels
from promcompat.core.templates.nodes import TemplateError
from promcompat.core.templates.template import (
    QueryNeededError,
    TemplateData,
    check_template,
    expand_template,
)

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
        ('{{ urlQueryEscape "a b&c~" }}', "a+b%26c~"),
        (
            "{{ externalURL }} {{ pathPrefix }} {{ $externalURL }}",
            f"{DATA.external_url} /prom {DATA.external_url}",
        ),
        ("no action }}", "no action }}"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    check_template("A", text)
    assert expand_template(text, DATA) == expected


def test_a_query_is_asked_of_the_caller() -> None:
    with pytest.raises(QueryNeededError) as needed:
        expand_template('{{ query "up == 0" | first | value }}', DATA)
    assert needed.value.query == "up == 0"


@pytest.mark.parametrize(
    "text",
    [
        '{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}',
        "{{ range $a := 100000 }}{{ range $b := 100000 }}x{{ end }}{{ end }}",
        "{{ printf `%9999999d` 1 }}",
        "{{ printf `%999999d` 1 }}{{ printf `%999999d` 1 }}",
    ],
)
def test_a_template_cannot_take_everything(text: str) -> None:
    assert expand_template(text, DATA).startswith("<error expanding template: ")
