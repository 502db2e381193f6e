"""The text `promcompat explain` shows."""

from promcompat.processes.explanation.text import render_explanation

EXPLANATION = {
    "query": "sum(up)",
    "formatted": "sum(\n  up\n)",
    "tree": {
        "type": "aggregation",
        "text": "sum(up)",
        "step_invariant": True,
        "children": [{"type": "vectorSelector", "text": "up", "leaf": 0, "children": []}],
    },
    "result_type": "vector",
    "steps": 1200,
    "leaves": [
        {
            "matchers": [
                {"name": "__name__", "type": "=", "value": "up"},
                {"name": "job", "type": "=~", "value": "a|b"},
            ],
            "start": 1_700_000_000,
            "end": 1e15,
            "series": 2000,
            "rules": [
                {"rule": "last_sample", "applies": True, "reason": "one step"},
                {"rule": "window_gaps", "applies": False, "reason": "no gaps"},
            ],
            "sql": "SELECT 1",
            "parameters": ["[1, 2]", "60"],
            "estimated_rows": 12345,
            "actual_rows": 12000,
            "seconds": 0.01234,
            "database_plan": "Append\n  -> Scan",
        }
    ],
    "stages": {"execTotalTime": 2.5, "innerEvalTime": 0.25},
}

TEXT = """\
vector at 1,200 steps
  sum(
    up
  )

tree
  aggregation: sum(up)  (evaluated once)
    vectorSelector: up  (leaf 0)

leaf 0: {__name__="up", job=~"a|b"}
  samples after 2023-11-14T22:13:20Z up to 31690708-07-05T01:46:40Z
  2,000 series, about 12,345 rows estimated, 12,000 read in 12.3 ms
  rule last_sample applies: one step
  rule window_gaps does not apply: no gaps
  sql
    SELECT 1
    $1 = [1, 2]
    $2 = 60
  database plan
    Append
      -> Scan

stages
  execTotalTime  2.50 s
  innerEvalTime  250.0 ms
"""


def test_an_explanation_with_all_measurements_is_rendered() -> None:
    assert render_explanation(EXPLANATION) == TEXT


def test_what_is_not_known_is_left_out() -> None:
    leaf = {
        "matchers": [],
        "start": 0,
        "end": 60,
        "series": 1,
        "rules": [],
        "sql": "",
        "parameters": [],
        "estimated_rows": None,
        "actual_rows": None,
        "seconds": None,
        "database_plan": None,
    }
    tree = {"type": "vectorSelector", "text": "up", "leaf": 0, "children": []}
    shown = {"result_type": "vector", "steps": 1, "formatted": "up", "tree": tree}
    assert render_explanation({**shown, "leaves": [leaf], "stages": None}) == (
        "vector at 1 step\n"
        "  up\n\n"
        "tree\n"
        "  vectorSelector: up  (leaf 0)\n\n"
        "leaf 0: {}\n"
        "  samples after 1970-01-01T00:00:00Z up to 1970-01-01T00:01:00Z\n"
        "  1 series\n"
    )
