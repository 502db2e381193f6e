"""Random queries in the language of Prometheus 3.14 with its features, of odd series, too.

What Prometheus leaves to chance is not asked: which of equal samples `topk` and `limitk` take of a
vector that is computed over a range, whose order is another one each time.
"""

from collections.abc import Callable

from conformance.random_queries import (
    AGGREGATIONS,
    ARITHMETIC,
    COMPARISONS,
    MATH_FUNCTIONS,
    NUMBERS,
    RANGE_FUNCTIONS,
    SET_OPERATORS,
    QueryGenerator,
)
from conformance.synthetic import END_MS

HISTOGRAMS = ("native", "native_gauge", "custom", "custom_gauge", "mixed")
ODD = (*HISTOGRAMS, *HISTOGRAMS, "odd", "typed_total", "target_info", "build_info")
ODD_MATCHERS = (
    'instance="a:8080"',
    'instance!="b:8080"',
    'instance=~"[ad].*"',
    'method="GET"',
    'method!="GET"',
    'version=~"v1|"',
)
LABELS = ("instance", "job", "le", "method", "mode", "version", "region", "__type__", "__name__")
DURATIONS = ("30s", "45s", "2m", "7m", "31m", "1h")
DURATION_EXPRESSIONS = (
    "1m+30s",
    "step()+1m",
    "max_of(step(), 2m)",
    "min_of(range(), 10m)+1s",
    "2*90",
    "-1m+5m",
    "7m%4m",
    "2^9",
    "1h/7",
)
STEPS = ("", "10s", "17s", "30s", "1m7s", "7m", "step()+10s", "1.5")
OFFSETS = ("1m", "-2m", "17s", "-31s", "(-1m+step())", "step()", "1h")
TIMES = (f"{END_MS // 1000 - 600}", f"{END_MS // 1000 - 3600}.5", "end()", "start()")
RANGE_FUNCTIONS_OF_ALL = (
    *RANGE_FUNCTIONS,
    "first_over_time",
    "mad_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
)
RANGE_FUNCTIONS_OF_HISTOGRAMS = (
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "sum_over_time",
    "avg_over_time",
    "last_over_time",
    "first_over_time",
    "count_over_time",
    "resets",
    "changes",
)
STATISTICS = (
    "histogram_avg",
    "histogram_count",
    "histogram_sum",
    "histogram_stddev",
    "histogram_stdvar",
)
ANCHORED = ("changes", "delta", "increase", "rate", "resets")
SMOOTHED = ("delta", "increase", "rate")
ODD_NUMBERS = (*NUMBERS, "-0", "-Inf", "0.5", "-1", "2", "1e308", "5e-324", "1h", "0x1F")
PARAMETERS = ("0", "1", "2", "3", "-1", "0.5", "NaN", "1e20", "time()%5", "scalar(odd)")
RATIOS = ("0.5", "-0.5", "0.2", "-0.8", "0", "1", "-1", "1.1", "-2", "NaN", "time()%7/7")
FRACTIONS = ("0", "0.1", "0.5", "0.9", "1", "-1", "2", "NaN", "time()%3/3")


class NewestQueryGenerator(QueryGenerator):
    """An endless source of queries; the same seed gives the same ones."""

    labels = LABELS

    def query(self) -> str:
        """An expression of any type but strings."""
        chance = self._random.random()
        if chance < 0.04:
            return self._scalar(3)
        if chance < 0.06:
            return self._matrix(1)
        return self._sorted() if chance < 0.12 else self._vector(self._pick((1, 2, 3)))

    def _selector(self) -> str:
        if self._chance(0.25):
            return super()._selector()
        matchers = self._random.sample(ODD_MATCHERS, self._pick((0, 0, 1, 2)))
        return self._pick(ODD) + ("{" + ", ".join(matchers) + "}" if matchers else "")

    def _modifier(self) -> str:
        parts = []
        if self._chance(0.12):
            parts.append(f"offset {self._pick(OFFSETS)}")
        if self._chance(0.08):
            parts.append(f"@ {self._pick(TIMES)}")
        self._random.shuffle(parts)
        return "".join(f" {part}" for part in parts)

    def _duration(self) -> str:
        return self._pick(DURATIONS if self._chance(0.85) else DURATION_EXPRESSIONS)

    def _vector(self, depth: int) -> str:
        if depth == 0 or self._chance(0.08):
            smoothed = " smoothed" if self._chance(0.06) else ""
            return self._selector() + smoothed + self._modifier()
        forms: tuple[Callable[[int], str], ...] = (
            self._range_function,
            self._range_function,
            self._range_function,
            self._aggregation,
            self._aggregation,
            self._with_scalar,
            self._with_vector,
            self._with_vector,
            self._function,
            self._histogram_function,
            self._histogram_function,
            self._ranked,
            self._info,
        )
        return self._pick(forms)(depth - 1)

    def _scalar(self, depth: int) -> str:
        if depth == 0 or self._chance(0.6):
            return self._pick((*ODD_NUMBERS, *ODD_NUMBERS, "time()", "step()", "range()", "end()"))
        if self._chance(0.3):
            return f"{self._pick(('min_of', 'max_of'))}({self._scalar(0)}, {self._scalar(0)})"
        return super()._scalar(depth)

    def _matrix(self, depth: int) -> str:
        if depth == 0 or self._chance(0.75):
            return f"{self._selector()}[{self._duration()}]{self._modifier()}"
        inner = self._vector(depth - 1)
        window = f"{self._duration()}:{self._pick(STEPS)}"
        return f"({inner})[{window}]{self._modifier()}"

    def _range_function(self, depth: int) -> str:
        chance = self._random.random()
        if chance < 0.06:
            return f"quantile_over_time({self._fraction()}, {self._matrix(depth)})"
        if chance < 0.1:
            return f"predict_linear({self._matrix(depth)}, {self._scalar(0)})"
        if chance < 0.14:
            factors = f"{self._pick(FRACTIONS)}, {self._pick(FRACTIONS)}"
            return f"double_exponential_smoothing({self._matrix(depth)}, {factors})"
        if chance < 0.3:
            modifier, functions = self._pick((("anchored", ANCHORED), ("smoothed", SMOOTHED)))
            selector = f"{self._selector()}[{self._duration()}] {modifier}{self._modifier()}"
            return f"{self._pick(functions)}({selector})"
        functions = self._pick((RANGE_FUNCTIONS_OF_ALL, RANGE_FUNCTIONS_OF_HISTOGRAMS))
        return f"{self._pick(functions)}({self._matrix(depth)})"

    def _fraction(self) -> str:
        return self._pick(FRACTIONS)

    def _aggregation(self, depth: int) -> str:
        chance = self._random.random()
        if chance < 0.08:
            return f"quantile{self._grouping()} ({self._fraction()}, {self._vector(depth)})"
        if chance < 0.14:
            # Of computed values the last digit may be another one, and so the label.
            label = self._pick(("value", "instance", "le"))
            return f'count_values{self._grouping()} ("{label}", {self._selector()})'
        inner = self._vector(depth)
        # Warnings have the position of what is in the parentheses.
        inner = f"({inner})" if self._chance(0.2) else inner
        return f"{self._pick(AGGREGATIONS)}{self._grouping()} ({inner})"

    def _with_scalar(self, depth: int) -> str:
        operator = self._pick((*ARITHMETIC, *COMPARISONS, "*", "/", "</", ">/", "</", ">/"))
        if operator in ("</", ">/"):
            return f"({self._vector(depth)}) {operator} ({self._scalar(depth)})"
        if operator in COMPARISONS and self._chance(0.4):
            operator += " bool"
        sides = [f"({self._vector(depth)})", f"({self._scalar(depth)})"]
        self._random.shuffle(sides)
        return f" {operator} ".join(sides)

    def _with_vector(self, depth: int) -> str:
        left, right = self._vector(depth), self._vector(depth)
        labels = ", ".join(self._random.sample(self.labels, self._pick((1, 1, 2))))
        matching = f"{self._pick(('on', 'ignoring'))} ({labels})" if self._chance(0.6) else ""
        if self._chance(0.25):
            return f"({left}) {self._pick(SET_OPERATORS)} {matching} ({right})"
        if matching and self._chance(0.4):
            reduced = self._pick(("max", "sum", "avg", "count"))
            included = self._pick(("", "(method)", "(job, version)", "()"))
            if self._chance(0.7):
                right = f"{reduced} by (instance) ({right})"
                matching = f"on (instance) group_left {included}"
            else:
                left = f"{reduced} by (instance) ({left})"
                matching = f"on (instance) group_right {included}"
        if self._chance(0.3):
            matching += self._fill()
        operator = self._pick((*ARITHMETIC, *COMPARISONS, "+", "-", "==", "!=", "</", ">/"))
        boolean = " bool" if operator in COMPARISONS and self._chance(0.4) else ""
        return f"({left}) {operator}{boolean} {matching} ({right})"

    def _fill(self) -> str:
        value, other = (
            self._pick(("0", "1", "-5", "NaN", "Inf", "1h")),
            self._pick(("0", "2", "-0")),
        )
        forms = (
            f" fill({value})",
            f" fill_left({value})",
            f" fill_right({value})",
            f" fill_left({value}) fill_right({other})",
            f" fill_right({value}) fill_left({other})",
        )
        return self._pick(forms)

    def _function(self, depth: int) -> str:
        inner = self._vector(depth)
        forms = (
            f"{self._pick(MATH_FUNCTIONS)}({inner})",
            f"{self._pick(MATH_FUNCTIONS)}({inner})",
            f"-({inner})",
            f"clamp({inner}, {self._scalar(0)}, {self._scalar(0)})",
            f"clamp_max({inner}, {self._scalar(0)})",
            f"round({inner}, {self._scalar(0)})",
            f'label_replace({inner}, "host", "$1", "instance", "(.):.*")',
            f'label_replace({inner}, "{self._pick(("method", "__name__", "le"))}", "", "", "")',
            f'label_join({inner}, "version", "-", "instance", "method")',
            f"vector({self._scalar(depth)})",
            f"absent({inner})",
            f"absent_over_time({self._matrix(depth)})",
            f"day_of_week({inner})",
            f"vector(scalar({inner}))",
        )
        return self._pick(forms)

    def _histogram_function(self, depth: int) -> str:
        inner = self._histograms(depth) if self._chance(0.5) else self._vector(depth)
        forms = (
            f"{self._pick(STATISTICS)}({inner})",
            f"{self._pick(STATISTICS)}({inner})",
            f"histogram_quantile({self._fraction()}, {inner})",
            f"histogram_fraction({self._scalar(0)}, {self._scalar(0)}, {inner})",
            f'histogram_quantiles({inner}, "q", {self._fraction()}, {self._fraction()})',
            inner,
        )
        return self._pick(forms)

    def _histograms(self, depth: int) -> str:
        metric = self._pick(HISTOGRAMS)
        if depth == 0 or self._chance(0.3):
            return metric + self._modifier()
        function = self._pick(RANGE_FUNCTIONS_OF_HISTOGRAMS[:9])
        forms = (
            f"{function}({metric}[{self._duration()}]{self._modifier()})",
            f"{self._pick(('sum', 'avg'))}{self._grouping()} ({metric})",
            f"limitk(2, {metric})",
        )
        inner = self._pick(forms)
        return f"({inner}) {self._pick(('+', '-', 'or', 'and'))} {metric}" if depth > 1 else inner

    def _ranked(self, depth: int) -> str:
        chance = self._random.random()
        if chance < 0.4:
            return super()._ranked(depth)
        if chance < 0.7:
            return f"limitk{self._grouping()} ({self._pick(PARAMETERS)}, {self._selector()})"
        return f"limit_ratio{self._grouping()} ({self._pick(RATIOS)}, {self._vector(depth)})"

    def _info(self, depth: int) -> str:
        inner = self._vector(depth)
        selectors = (
            "",
            "",
            ', {version=~".+"}',
            ", {region!='us'}",
            ', {version="v1"}',
            ", {__name__='build_info'}",
            ", {__name__=~'.+_info', revision=~'.*'}",
            ", {__name__!='target_info'}",
        )
        return f"info({inner}{self._pick(selectors)})"

    def _sorted(self) -> str:
        inner, selector = self._vector(1), self._selector()
        forms = (
            f"sort({inner})",
            f"sort_desc({inner})",
            f'sort_by_label({selector}, "instance", "method")',
            f'sort_by_label_desc({selector}, "version")',
            f"topk({self._pick(PARAMETERS)}, {selector})",
            f"bottomk({self._pick(PARAMETERS)}, {selector})",
        )
        return self._pick(forms)
