"""Alert templates expand to the texts a real Prometheus gives: promtool judges ours."""

import re
from pathlib import Path

import pytest
import yaml

from conformance.processes import run_command
from promcompat.alerting.templates.nodes import TemplateError
from promcompat.alerting.templates.template import TemplateData, check_template, expand_template
from promcompat.core.model import Labels

pytestmark = pytest.mark.integration

LABELS = Labels.of(
    {"instance": "node1.example.com:9100", "job": "api", "ip": "10.0.0.1:80", "v6": "[::1]:80"}
)
VALUES = (0.0, 0.1, 1.0, 1.5, 12.0, 100000.0, 1234567.0, 1.234e-5, -90061.5, 3e14, 0.000123)
TEMPLATES = (
    "plain text",
    "{{ $value }} {{ .Value }} {{ printf `%v` $value }} {{ print $value }}",
    "{{ $labels.instance }} {{ .Labels.job }} [{{ $labels.missing }}]",
    '{{ printf "%.0f|%.1f|%.2f|%.4g|%g|%e|%f|%8.2f|%-8.1f|%08.1f|%+.1f" '
    "$value $value $value $value $value $value $value $value $value $value $value }}",
    '{{ printf "%d %s %q %t %x %v %5d %-5s| %05d %+d %c %U" '
    '42 "s" "q\\"uote" true 255 nil 7 "ab" 42 42 65 65 }}',
    '{{ printf "%d %s" $value }} {{ printf "%d" 1 2 }} {{ printf "%" }} {{ printf "100%%" }}',
    "{{ humanize $value }} {{ $value | humanize1024 }} {{ humanizeDuration $value }}",
    "{{ $value | humanizePercentage }}",
    "{{ humanizeTimestamp 1.5 }} {{ toTime 1435065584.128 }} {{ humanizeTimestamp -1.25 }}",
    '{{ humanize "1234" }} {{ humanizeDuration "90" }} {{ humanizePercentage "0.5" }}',
    "{{ humanizeDuration 0.001 }} {{ humanizeDuration -3661.0 }} {{ humanizeDuration 59.9 }}",
    '{{ humanize "x" }}',
    '{{ humanize "1e1_0" }} {{ humanize "0x_1p4" }} {{ humanize "nan" }} {{ humanize "-inf" }}',
    '{{ humanize "+nan" }}',
    '{{ humanize "1e999" }}',
    '{{ humanize "0x1__0p4" }}',
    '{{ humanize "0xp4" }}',
    '{{ humanize "a\\"b\\n" }}',
    '{{ printf "%q %+q %#q %q %+q" "\\ufffd" "\\ufffd\\u0080" "\\ufffd" 65533 65533 }}',
    "{{ 1e1_0 }} {{ 0x1p1_0 }} {{ 0b11 }} {{ 0o17 }} {{ 0_17 }} {{ -0x10 }} {{ 1_0.5 }} {{ -0.0 }}",
    "{{ if gt $value 10.0 }}high{{ else if eq $value 1.0 }}one{{ else }}low{{ end }}",
    '{{ if and $labels.job (ne $labels.job "db") }}yes{{ end }}{{ if or "" 0 }}no{{ end }}',
    "{{ gt $value 1 }}",
    '{{ if not $labels.missing }}none{{ end }} {{ eq $labels.job "x" "api" }} {{ lt "a" "b" }}',
    "{{ range $name, $text := $labels }}{{ $name }}={{ $text }};{{ end }}",
    "{{ range $i, $e := query `sort(vector_of_two)` }}"
    "{{ $i }}:{{ $e.Labels.n }}={{ $e.Value }}{{ end }}",
    '{{ with query "missing" }}{{ . | first | value }}{{ else }}nothing{{ end }}',
    '{{ with query "sort(vector_of_two)" }}{{ . | first | label "n" }}{{ end }}',
    '{{ range query "vector_of_two" | sortByLabel "n" }}{{ .Labels.n }}{{ .Value }},{{ end }}',
    '{{ query "missing" | first | value }}',
    '{{ range query "missing" }}x{{ else }}empty{{ end }} {{ len (query "vector_of_two") }}',
    "{{- /* a comment */ -}}\n  trimmed  {{- ` ` }}x {{ `raw` -}}  \n y",
    "{{ $x := 5 }}{{ if true }}{{ $x = 6 }}{{ end }}{{ $x }}",
    '{{ define "t" }}<{{ .arg0 }}:{{ .arg1 }}>{{ end }}{{ template "t" (args 1 "two") }}',
    '{{ reReplaceAll "(.*):(\\\\d+)" "${2}-$1" $labels.instance }} {{ match "^n.*" "node" }}',
    "{{ stripPort $labels.instance }} {{ stripPort $labels.v6 }} {{ stripPort `none` }}",
    "{{ stripDomain $labels.instance }} {{ stripDomain $labels.ip }} {{ stripDomain `a.b.c` }}",
    '{{ title "some wOrds here\'s" }} {{ toUpper "abc" }} {{ toLower "ABC" }}',
    '{{ graphLink "up == 1" }} {{ tableLink `rate(x{a="b"}[5m])` }}',
    '{{ urlquery "a b&c~" }} {{ html "<a&\\"b\'>" }} {{ js "it\'s <" }}',
    '{{ parseDuration "1h2m10s" }} {{ len "häé" }} {{ slice "abcdef" 1 3 }}',
    '{{ index $labels "job" }}',
    '{{ println "a" 1 }}{{ print 1 2 "x" 3 4 }} {{ printf "%T %T %T" 1 1.5 "s" }}',
    "{{ $labels }} {{ true }} {{ 1e3 }} {{ 0x1F }} {{ 'a' }} {{ 1.50 }} {{ -3 }}",
    "{{ .Nope }}",
    "{{ $externalURL }}|{{ $externalLabels.none }}",
    '{{ label "job" }}',
    "{{ toUpper $value }}",
    "{{ toUpper 1e3 }}",
    "{{ label `job` true }}",
    "{{ stripPort nil }}",
    "{{ 5 | match `x` }}",
    "{{ humanize (print `a` | toUpper) }}",
    "{{ $labels.missing }}",
    "{{ $labels.job | printf `%s-%s` $labels.ip | toUpper }}",
    "{{ (index (query `sort(vector_of_two)`) 1).Value }}",
    "{{ ((first (query `sort(vector_of_two)`))).Labels.n }}",
    "{{ range $v := (query `sort(vector_of_two)`) }}{{ if eq $v.Value 2.0 }}{{ break }}{{ end }}"
    "{{ $v.Value }}{{ end }}",
    '{{ block "x" $labels }}<{{ .job }}>{{ end }}{{ template "x" $labels }}',
    '{{ define "x" }}1{{ end }}{{ define "x" }} {{ end }}{{ template "x" }}',
    "{{ range $i := 3 }}{{ $i }}{{ end }}{{ range 2 }}{{ . }}{{ else }}no{{ end }}",
    "{{ with 0 }}a{{ else with 5 }}b{{ . }}{{ end }}{{ print\n 1\n 2 }}",
    "{{ printf `%#+z|%+t|%#d|%.3T|%#e|%#.3g|%#g|%#x|%U|%#U` "
    "1.5 2.5 `s` 1 1.0 1.0 1e6 1.5 -5 1114112 }}",
    "{{ printf `%+.0d|%#.3o|%#o|%b|%#.0f|%5.0d|` 0 8 8 0.0 2.0 0 }}",
    "{{ . }} {{ $ }} {{ print . }} {{ html . }}",
    "{{ range query `sort(vector_of_two)` }}{{ . }};{{ end }}",
    "{{ query `sort(vector_of_two)` | first }}",
    "{{ args 1 `two` 2.5 $labels nil }} {{ args }} {{ args (args 1 2) (args `a`) }}",
    "{{ printf `%s|%v|%+v|%#v|%d` . . . . . }}",
    "{{ printf `%s|%v|%+v|%#v|%d|%q|%x|%T` $labels $labels $labels $labels $labels $labels "
    "$labels $labels }}",
    "{{ with query `sort(vector_of_two)` | first }}"
    "{{ printf `%#v|%+v|%v|%d|%T` . . . . . }}{{ end }}",
    "{{ printf `%#v|%q|%T` (args 1 `a` 2.5) (args `a b` 1) (args) }}",
    "{{ printf `%10v|%-20v|%5.2f` $labels $labels $labels }}",
    "{{ printf `%s|%q|%x|%T` (toTime 1.5) (toTime 1.5) `é` (toTime 1.5) }}",
    "{{ printf `%05s|%-05s|%05t|%-5d|%+q|%#q|%q` `ab` `ab` true 3 `é` `a` "
    '"a\\x01\\n\\u00e9\\u200b" }}',
    "{{ printf `%.5d|%8.5d|%08.5d|%+.3d|%#o|%O|%#b|%#X|%.0d` 42 42 42 42 8 8 5 255 0 }}",
    "{{ printf `%b|%x|%X|%.3x|%G|%.3G|%E|%F` 1.5 -0.1 255.5 1.5 1e-7 1234567.0 0.00012 1.5 }}",
    "{{ printf `%U|%#U|%c|%q|%q|%+q|%3c|%-3c|%03c` 65 65 233 39 233 233 65 65 65 }}",
    "{{ printf `%c|%c|%U|%q` 55296 1114112 55296 55296 }}",
    "{{ printf `%[2]*[1]d|%[5]d|%[x]d|%[1]d%[1]d|%[2]d %[1]d` 7 3 }}",
    "{{ printf `%*d` `x` 3 }} {{ printf `%.*f` 2 3.14159 }} {{ printf `%.*f` -1 3.14 }}",
    "{{ printf `%99999999d` 1 }} {{ printf `%.99999999f` 1.0 }} {{ printf `%!d(x)` }}",
    "{{ printf `%6v|%-6v|%06v|%+v|% v|%06.2f|%+06.1f|% 6.1f` 1.5 2.5 -3.5 4.5 5.5 -1.5 2.25 3.0 }}",
    "{{ printf `%08x|%#08x|%-8x|% x|%X|%#x|% X` 255 255 255 255 `hello` `abc` `abc` }}",
    "{{ printf `%v` nil }} {{ printf `%d` nil }} {{ printf `%5v|%T` nil nil }} {{ print nil }}",
    "{{ printf `a` 1 `b` nil 2.5 }} {{ printf `%é` 1 }} {{ printf `%d %5t` true false }}",
    "{{ 0x1p4 }} {{ 0X_1F }} {{ 017 }} {{ .5 }} {{ 5. }} {{ 9223372036854775807 }} '{{ 1_0 }}'",
    "{{ 9223372036854775808 }}",
    "{{ range . }}x{{ end }}",
    "{{ len . }}",
    "{{ if . }}yes{{ end }} {{ with . }}{{ .Value }}{{ end }}",
    "{{ toUpper `ß ŉ ﬁ ᾳ ᾲ ΐ և ǆ` }} {{ toLower `İ ΑΣ ΣΑ Ǆ` }} {{ js `a\u0301\u200b` }}",
    "{{ title `ß ﬁx ᾳ ǆ Ǆ a\u0301b ა 3com 4x4 _x a1b foo-bar foo.bar foo:bar` }}",
    "{{ title `it\u2019s it's x..y 'a'` }}",
    "{{ title `abcDEF x\u200by a/b 1.a a.1 1,a` }}",
    "{{ reReplaceAll `b*` `-` `abbc` }} {{ reReplaceAll `(a)(b)?` `$01|${2}|$1a|$$1|${1` `aab` }}",
    "{{ reReplaceAll `` `-` `é` }} {{ reReplaceAll `é*` `x` `aéb` }}",
    "{{ reReplaceAll `(` `x` `y` }}",
    "{{ humanizeTimestamp 4294967296.5 }} {{ toTime 1700000000.123 }} {{ toTime 1700000000.001 }} "
    "{{ humanizeTimestamp -1e-5 }} {{ humanizeTimestamp -1.0005 }}",
    '{{ toTime "NaN" }}',
    '{{ humanizeDuration "1e25" }} {{ humanizeDuration "-1e25" }} {{ humanizeDuration 9e18 }}',
    # Where the faults are: of a chain of fields its second one, of a template its name.
    "{{ .Foo.Bar }}",
    "{{ .Foo.Bar.Baz | print }}",
    "{{ $value.A.B }}",
    "{{ $labels.job.x }}",
    "{{ (first (query `vector_of_two`)).Nope.X }}",
    "{{ if .Foo.Bar }}x{{ end }}",
    "{{ print 1 .Foo.Bar }}",
    '{{ template "no" }}',
    'x{{ template "no" .Foo.Bar }}',
    '{{ define "in" }}{{ .a.b }}{{ end }}{{ template "in" 5 }}',
    '{{ block "b" .No.No }}{{ end }}',
)
_TWO = [
    (Labels.of({"__name__": "vector_of_two", "n": "b"}), 1.0),
    (Labels.of({"__name__": "vector_of_two", "n": "c"}), 2.0),
]
# Prometheus gives a vector in no order of its own, so what depends on it is sorted.
QUERIES = {"vector_of_two": _TWO, "sort(vector_of_two)": _TWO, "missing": []}


def expand_all(value: float) -> dict[str, str]:
    data = TemplateData(
        alert_name="A",
        labels=Labels([*LABELS, ("__name__", "metric")]),
        value=value,
        now_ms=60_000,
        queries=QUERIES,
    )
    return {f"a{n:02}": expand_template(text, data) for n, text in enumerate(TEMPLATES)}


@pytest.mark.parametrize("value", VALUES)
async def test_texts_are_those_of_prometheus(
    value: float, promtool_binary: Path, tmp_path: Path
) -> None:
    annotations = {f"a{n:02}": text for n, text in enumerate(TEMPLATES)}
    rule = {"alert": "A", "expr": "metric", "annotations": annotations}
    (tmp_path / "rules.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}), encoding="utf-8"
    )
    series = ",".join(f'{name}="{text}"' for name, text in LABELS)
    expected = {"exp_labels": LABELS.as_dict(), "exp_annotations": expand_all(value)}
    test = {
        "rule_files": ["rules.yml"],
        "tests": [
            {
                "interval": "1m",
                "external_url": "",
                "input_series": [
                    {"series": f"metric{{{series}}}", "values": f"{value!r}x3"},
                    {"series": 'vector_of_two{n="b"}', "values": "1x3"},
                    {"series": 'vector_of_two{n="c"}', "values": "2x3"},
                ],
                "alert_rule_test": [
                    {"eval_time": "1m", "alertname": "A", "exp_alerts": [expected]}
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test), encoding="utf-8")
    status, output, errors = await run_command(
        [promtool_binary, "test", "rules", tmp_path / "test.yml"]
    )
    assert status == 0, output + errors


# Is it a template? Only the answer counts here, not its words.
DOUBTFUL = (
    '{{ define "x" }}1{{ end }}{{ define "x" }}2{{ end }}', '{{ block "x" }}{{ end }}',
    "{{ $x = 2 }}", "{{ 'ab' }}", "{{ '' }}", "{{ 'a }}", "{{ ..a }}", "{{ .a. }}", "{{ .a .b }}",
    "{{ . a }}", '{{ print"a" }}', "{{ print 1, 2 }}", "{{ $a, $b := 1 }}",
    '{{ define "x" }}{{ define "y" }}{{ end }}{{ end }}',
    "{{ if 1 }}{{ define `x` }}{{ end }}{{ end }}", '{{ "\\400" }}', "{{ 1_ }}", "{{ 1__0 }}",
    "{{ 0x_1 }}", "{{ 0x }}", "{{ 1e }}", "{{ - 5 }}", "{{ +5 }}", "{{ 1 | 2 }}", "{{ nil }}",
    "{{ }}", "{{ (1) }}", "{{ print (1 }}", "{{ 5 /* c */ }}", "{{- /* c */ -}}", "{{ end }}",
    "{{ else }}", "{{ if }}{{ end }}", "{{ if 1 }}", "{{ break }}", "{{ continue }}",
    "{{ range 2 }}{{ else }}{{ break }}{{ end }}", "{{ if 1 }}{{ else }}{{ else }}{{ end }}",
    "{{ true.x }}", "{{ $x := 1 }}{{ $x = 2 }}", "{{ if $x := 5 }}{{ end }}{{ $x }}", "{{ ünï }}",
    "{{ .ünï }}", "{{ $ünï := 1 }}", '{{ "a" == "b" }}', '{{ .Labels["a"] }}', "{{{ 1 }}}",
    "}} {{ 1 }} }}", '{{ "a\nb" }}', "{{ `a\nb` }}", "{{ template 5 }}", "{{ define 5 }}{{ end }}",
    '{{ tmpl "x" . }}', "{{ and }}", "{{ printf }}", "{{ $labels.a.b }}",
    "{{ 'a' }}", "{{ '\\n' }}", "{{ .Labels | }}", "{{ | print }}",
)  # fmt: skip


async def test_what_prometheus_takes_for_a_template_is_one(
    promtool_binary: Path, tmp_path: Path
) -> None:
    rules = [
        {"alert": f"A{number:03}", "expr": "up", "annotations": {"a": text}}
        for number, text in enumerate(DOUBTFUL)
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}), encoding="utf-8")
    _, output, errors = await run_command([promtool_binary, "check", "rules", path])
    refused = set(re.findall(r'"A(\d+)": annotation', output + errors))
    ours = set()
    for number, text in enumerate(DOUBTFUL):
        try:
            check_template("A", text)
        except TemplateError:
            ours.add(f"{number:03}")
    assert refused
    assert [DOUBTFUL[int(number)] for number in sorted(ours ^ refused)] == []


@pytest.mark.parametrize(
    "text",
    [
        "{{ 99999999999999999999 }}", "{{ 09 }}", "{{ 1e400 }}", "{{ 1e }}", "{{ 1e1__0 }}",
        "{{ 0x1.8 }}", "{{ 0x1ffffffffffffffffff }}", "{{ +18446744073709551615 }}",
        "{{ '\\ud800' }}",
        '{{ "\\U00110000" }}', "{{ index `abc` -99999999999999999999 }}", "{{ nope }}",
    ],
)  # fmt: skip
async def test_faults_of_templates_are_those_of_prometheus(
    text: str, promtool_binary: Path, tmp_path: Path
) -> None:
    rule = {"alert": "A", "expr": "metric", "annotations": {"a": text}}
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}), encoding="utf-8")
    status, output, errors = await run_command([promtool_binary, "check", "rules", path])
    assert status != 0
    with pytest.raises(TemplateError) as found:
        check_template("A", text)
    expected = (output + errors).partition('annotation "a": ')[2].strip().splitlines()[0]
    assert str(found.value).removeprefix("error parsing template __alert_A: ") == expected
