"""Label matchers to SQL conditions on series.

Pure. What SQL cannot decide exactly (RE2) comes back as residual matchers, which
`sql.series.reader` decides in Python over the values it reads.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

import orjson

from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME
from promcompat.core.patterns.compiled import compile_pattern
from promcompat.core.texts.storable_text import is_storable_text
from sql.database.statements import Params, Statement

MAX_TERMS: Final = 200
"""Of one statement; the matchers beyond are decided in Python."""
MAX_RESIDUAL_COLUMNS: Final = 100
"""PostgreSQL has room for 1,664 columns."""
_TRUE: Final = "TRUE"
_FALSE: Final = "FALSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesCondition:
    """The condition on `series AS s` that SQL can decide, and the matchers that are left.

    `residual` holds regular expressions on labels, `residual_names` those on the metric name;
    a series satisfies the matchers when it satisfies `text` and every residual matcher.
    """

    text: str
    residual: tuple[LabelMatcher, ...]
    residual_names: tuple[LabelMatcher, ...]

    @property
    def reads_all_labels(self) -> bool:
        """Whether there are so many residual matchers that whole label sets are read instead."""
        return len(self.residual) > MAX_RESIDUAL_COLUMNS


def translate_matchers(matchers: Sequence[LabelMatcher], params: Params) -> SeriesCondition:
    """The condition on `series AS s` of matchers that must all hold.

    `{__name__="up", job="node", mode!="idle", cpu=~"0|1", device=~"eth.*"}` becomes
    `s.metric_name = $1 AND s.labels @> $2::jsonb AND (s.labels ->> $3) IS DISTINCT FROM $4 AND
    (s.labels ->> $5) = ANY($6::text[])` with `device=~"eth.*"` residual. All equalities on labels
    go into one containment, which the GIN index answers in one scan.
    """
    terms: list[str] = []
    contained: dict[str, str] = {}
    residual: list[LabelMatcher] = []
    residual_names: list[LabelMatcher] = []
    for matcher in matchers:
        if _is_containment(matcher) and contained.get(matcher.name, matcher.value) == matcher.value:
            contained[matcher.name] = matcher.value
            continue
        term = _translate_matcher(matcher, params) if len(terms) < MAX_TERMS else None
        if term is not None:
            terms.append(term)
        elif matcher.name == METRIC_NAME:
            residual_names.append(matcher)
        else:
            residual.append(matcher)
    if contained:
        document = params.add(orjson.dumps(contained).decode())
        terms.insert(0, f"s.labels @> {document}::jsonb")
    return SeriesCondition(
        text=" AND ".join(term for term in terms if term != _TRUE) or _TRUE,
        residual=tuple(residual),
        residual_names=tuple(residual_names),
    )


def _is_containment(matcher: LabelMatcher) -> bool:
    return (
        matcher.op is MatchOp.EQUAL
        and matcher.name != METRIC_NAME
        and matcher.value != ""
        and is_storable_text(matcher.name)
        and is_storable_text(matcher.value)
    )


def _translate_matcher(matcher: LabelMatcher, params: Params) -> str | None:
    """The term of one matcher; None when only RE2 can decide it."""
    if not is_storable_text(matcher.name):
        # No series has such a label, so its value is empty everywhere.
        return _TRUE if matcher.matches_empty() else _FALSE
    match matcher.op:
        case MatchOp.EQUAL:
            return _translate_values(matcher.name, [matcher.value], params)
        case MatchOp.NOT_EQUAL:
            return f"NOT ({_translate_values(matcher.name, [matcher.value], params)})"
        case MatchOp.REGEX:
            return _translate_regex(matcher, params)
        case MatchOp.NOT_REGEX:
            term = _translate_regex(matcher, params)
            return None if term is None else f"NOT ({term})"
        case _:
            assert_never(matcher.op)


def _translate_regex(matcher: LabelMatcher, params: Params) -> str | None:
    """The regular expressions SQL decides exactly: `.*`, `.+` and alternatives of literals."""
    match matcher.value:
        case ".*":
            return _TRUE
        case ".+":
            return f"NOT ({_translate_values(matcher.name, [''], params)})"
        case pattern:
            values = compile_pattern(pattern).values
            return None if values is None else _translate_values(matcher.name, values, params)


def _translate_values(name: str, values: Collection[str], params: Params) -> str:
    """That the label has one of the values, where `""` means that it is absent; never NULL."""
    storable = [value for value in values if value and is_storable_text(value)]
    terms: list[str] = []
    if name == METRIC_NAME:
        names = [*storable, *([""] if "" in values else [])]
        if not names:
            return _FALSE
        if len(names) == 1:
            return f"s.metric_name = {params.add(names[0])}"
        return f"s.metric_name = ANY({params.add(names)}::text[])"
    if not storable and "" not in values:
        return _FALSE
    label = f"{params.add(name)}::text"
    if storable:
        listed = params.add(storable)
        terms.append(f"coalesce(s.labels ->> {label} = ANY({listed}::text[]), FALSE)")
    if "" in values:
        terms.append(f"NOT s.labels ? {label}")
    # In parentheses, because the caller joins it to others with AND.
    return terms[0] if len(terms) == 1 else f"({' OR '.join(terms)})"


def series_statement(
    tenant_id: int, condition: SeriesCondition, params: Params, names: Sequence[str] | None
) -> Statement:
    """Ids of the tenant's series that satisfy a condition, with the values residuals look at.

    `params` is the one `condition` was built with. `names` are the metric names that satisfy
    `residual_names`, when there are any. Columns: `id`, then `v0`, `v1`, … one for each residual
    matcher, or `labels`, a JSON document, when the condition `reads_all_labels`.
    Without residuals the one row is all ids packed as 8 big-endian bytes each, in order:
    numpy reads 100,000 of them at once, where driver records would be objects each.
    """
    terms = [f"s.tenant_id = {params.add(tenant_id)}", condition.text]
    if names is not None:
        terms.append(f"s.metric_name = ANY({params.add(list(names))}::text[])")
    where = f"FROM series AS s WHERE {_conjunction(terms)}"
    if not condition.residual:
        text = f"SELECT string_agg(int8send(s.id), ''::bytea ORDER BY s.id) AS ids {where}"
        return Statement(text, tuple(params.values))
    if condition.reads_all_labels:
        text = f"SELECT s.id, s.labels::text AS labels {where} ORDER BY s.id"
        return Statement(text, tuple(params.values))
    columns = [
        f"coalesce(s.labels ->> {params.add(matcher.name)}::text, '') AS v{index}"
        for index, matcher in enumerate(condition.residual)
    ]
    return Statement(
        f"SELECT s.id, {', '.join(columns)} {where} ORDER BY s.id", tuple(params.values)
    )


def chosen_labels_statement(ids: Sequence[int], names: Sequence[str]) -> Statement:
    """Series by the values that they have for some labels, NULL where they have none.

    Columns: the ids of a group of series, packed as by `series_statement`, and a value for each
    name; that of the metric's name is empty where there is none.
    """
    params = Params()
    where = f"FROM series AS s WHERE s.id = ANY({params.add(ids)}::bigint[])"
    columns = ["string_agg(int8send(s.id), ''::bytea)"]
    columns += [
        "s.metric_name" if name == METRIC_NAME else f"s.labels ->> {params.add(name)}::text"
        for name in names
    ]
    places = ", ".join(map(str, range(2, len(columns) + 1)))
    text = f"SELECT {', '.join(columns)} {where} GROUP BY {places}"
    return Statement(text, tuple(params.values))


def _conjunction(terms: Sequence[str]) -> str:
    return " AND ".join(f"({term})" for term in terms if term != _TRUE)
