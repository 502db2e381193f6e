"""What a well-meaning client sends, so that random requests get beyond the first check."""

from typing import Final

QUERIES: Final = (
    "up",
    "n",
    "sum by (i) (rate(n[5m]))",
    "rate(up[1h]) > 0",
    "histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m])))",
    "max_over_time(n[30m:1m])",
    "topk(3, n) or vector(1)",
    'label_replace(up, "a", "$1", "job", "(.*)")',
    "n offset 5m @ 1700000000",
    "n * on (i) group_left () n",
    'count_values("v", n)',
    "absent(nothing)",
    "quantile_over_time(0.5, n[10m])",
    "predict_linear(n[1h], 60)",
    "sort_desc(n)",
)
_TIMES: Final = ("1700000000", "1699999000.5", "2023-11-14T22:13:20Z")
PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "query": QUERIES,
    "match[]": ("up", "n", '{__name__=~".+"}', '{job="a"}', 'n{i!~"1.*"}'),
    "match_target": ("{}", '{job="a"}'),
    "time": _TIMES,
    "start": _TIMES,
    "end": (*_TIMES, "1700003600"),
    "step": ("15", "1m", "5m"),
    "timeout": ("1s", "500ms"),
    "limit": ("1", "10", "1000"),
    "lookback_delta": ("5m", "1s"),
    "stats": ("all",),
    "metric": ("n", "up"),
    "type": ("alert", "record"),
    "state": ("active", "firing", "any"),
    "selector": ("n", '{__name__=~".+"}'),
    "label_names[]": ("__name__", "i", "job"),
    "format": ("2:metric:n,1:label:i,3:time:unix_s",),
    "db": ("a",),
    "precision": ("s", "ms", "ns"),
}
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "name": ("__name__", "i", "job", "n", "up"),
    "namespace": ("a",),
    "group": ("g",),
    "labels": ("job/a", "job/a/i/1"),
    "id": ("1", "2"),
}
"""Parts of paths, by their names in the route."""
TEXT: Final = (("Content-Type", "text/plain"),)
JSON: Final = (("Content-Type", "application/json"),)
YAML: Final = (("Content-Type", "application/yaml"),)
BODIES: Final[tuple[tuple[str, tuple[tuple[str, str], ...], bytes], ...]] = (
    (
        "/import/prometheus",
        TEXT,
        b'# TYPE n counter\nn{i="1",job="a"} 1 1700000000000\nn{i="2"} NaN\nup 1\n',
    ),
    (
        "/metrics/{labels}",
        TEXT,
        b'h_bucket{le="1"} 1 1700000000000\nh_bucket{le="+Inf"} 2 1700000000000\n'
        b"h_sum 3\nh_count 2\n",
    ),
    ("/import/csv", TEXT, b"1,2,1700000000\n2,3.5,1700000015\n"),
    (
        "/api/v1/import",
        JSON,
        b'{"metric":{"__name__":"n","i":"1"},"values":[1,2],"timestamps":[1700000000000,1700000015000]}\n',
    ),
    ("/write", TEXT, b"n,i=1 value=1,other=2i 1700000000000000000\nup,job=a value=1\n"),
    (
        "/api/v1/series",
        JSON,
        b'{"series":[{"metric":"n","points":[[1700000000,1]],"tags":["i:1"],"host":"a"}]}',
    ),
    (
        "/api/v2/series",
        JSON,
        b'{"series":[{"metric":"n","type":3,"points":[{"timestamp":1700000000,"value":1}],"tags":["i:1"]}]}',
    ),
    (
        "/distribution_points",
        JSON,
        b'{"series":[{"metric":"d","points":[[1700000000,[1,2,3]]],"tags":["i:1"]}]}',
    ),
    (
        "/v1/metrics",
        JSON,
        b'{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":'
        b'{"stringValue":"a"}}]},"scopeMetrics":[{"metrics":[{"name":"n","gauge":{"dataPoints":'
        b'[{"timeUnixNano":"1700000000000000000","asDouble":1}]}}]}]}]}',
    ),
    (
        "/{namespace}",
        YAML,
        b"name: g\ninterval: 1m\nrules:\n- record: r\n  expr: sum(n)\n- alert: A\n  expr: n > 1\n",
    ),
)
"""Bodies by how the path of the route ends; the first that fits counts."""
