"""Random queries of the synthetic data that are well typed: what no one thinks of asking."""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from conformance.synthetic import END_MS

ItemT = TypeVar("ItemT")

METRICS = (
    "demo_cpu_seconds_total",
    "demo_duration_seconds_bucket",
    "demo_memory_bytes",
    "demo_replicas",
    "demo_requests_total",
    "demo_temperature_celsius",
    "irregular",
)
LABELS = ("instance", "job", "le", "method", "mode", "number", "status", "type")
MATCHERS = (
    'instance="a:8080"',
    'instance!="b:8080"',
    'instance=~"a.*|c:8080"',
    'instance!~".*a.*"',
    'mode=~"user|"',
    'type="used"',
    'status=~"[45].."',
    'method!=""',
)
DURATIONS = ("15s", "1m", "4m", "11m", "1h")
STEPS = ("", "10s", "1m", "7m")
MODIFIERS = ("offset 1m", "offset -2m", f"@ {END_MS // 1000 - 600}", "@ end()", "@ start()")
RANGE_FUNCTIONS = [
    "avg_over_time",
    "changes",
    "count_over_time",
    "delta",
    "deriv",
    "idelta",
    "increase",
    "irate",
    "last_over_time",
    "max_over_time",
    "min_over_time",
    "present_over_time",
    "rate",
    "resets",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "absent_over_time",
]
MATH_FUNCTIONS = [
    "abs",
    "ceil",
    "floor",
    "sgn",
    "sqrt",
    "ln",
    "exp",
    "deg",
    "atan",
    "sinh",
    "round",
    "timestamp",
    "absent",
    "hour",
]
AGGREGATIONS = ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]
ARITHMETIC = ("+", "-", "*", "/", "%", "^", "atan2")
COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")
SET_OPERATORS = ("and", "or", "unless")
NUMBERS = ("0", "1", "-2.5", "0.3", "1e9", "NaN", "Inf", "100")


class QueryGenerator:
    """An endless source of queries; the same seed gives the same ones."""

    labels: Sequence[str] = LABELS
    """The names that aggregations and matchings may have."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def query(self) -> str:
        """An instant vector expression, or now and then a scalar."""
        return self._scalar(3) if self._random.random() < 0.05 else self._vector(3)

    def _pick(self, items: Sequence[ItemT]) -> ItemT:
        return self._random.choice(items)

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _selector(self) -> str:
        matchers = self._random.sample(MATCHERS, self._pick((0, 0, 1, 2)))
        return self._pick(METRICS) + ("{" + ", ".join(matchers) + "}" if matchers else "")

    def _modifier(self) -> str:
        return f" {self._pick(MODIFIERS)}" if self._chance(0.15) else ""

    def _vector(self, depth: int) -> str:
        if depth == 0 or self._chance(0.1):
            return self._selector() + self._modifier()
        forms: tuple[Callable[[int], str], ...] = (
            self._range_function,
            self._range_function,
            self._aggregation,
            self._aggregation,
            self._with_scalar,
            self._with_vector,
            self._function,
            self._ranked,
        )
        return self._pick(forms)(depth - 1)

    def _scalar(self, depth: int) -> str:
        if depth == 0 or self._chance(0.5):
            return self._pick((*NUMBERS, "time()"))
        if self._chance(0.5):
            return f"scalar({self._vector(depth - 1)})"
        return f"({self._scalar(depth - 1)} {self._pick(ARITHMETIC)} {self._scalar(depth - 1)})"

    def _matrix(self, depth: int) -> str:
        if depth == 0 or self._chance(0.7):
            return f"{self._selector()}[{self._pick(DURATIONS)}]{self._modifier()}"
        inner = self._vector(depth - 1)
        window = f"{self._pick(DURATIONS[:-1])}:{self._pick(STEPS)}"
        return f"({inner})[{window}]{self._modifier()}"

    def _range_function(self, depth: int) -> str:
        if self._chance(0.1):
            return f"quantile_over_time({self._scalar(0)}, {self._matrix(depth)})"
        if self._chance(0.1):
            return f"predict_linear({self._matrix(depth)}, {self._scalar(0)})"
        return f"{self._pick(RANGE_FUNCTIONS)}({self._matrix(depth)})"

    def _grouping(self) -> str:
        labels = ", ".join(self._random.sample(self.labels, self._pick((0, 1, 1, 2))))
        return f" {self._pick(('by', 'without'))} ({labels})" if self._chance(0.8) else ""

    def _aggregation(self, depth: int) -> str:
        if self._chance(0.1):
            return f"quantile{self._grouping()} ({self._scalar(0)}, {self._vector(depth)})"
        return f"{self._pick(AGGREGATIONS)}{self._grouping()} ({self._vector(depth)})"

    def _with_scalar(self, depth: int) -> str:
        operator = self._pick((*ARITHMETIC, *COMPARISONS))
        if operator in COMPARISONS and self._chance(0.4):
            operator += " bool"
        sides = [f"({self._vector(depth)})", f"({self._scalar(depth)})"]
        self._random.shuffle(sides)
        return f" {operator} ".join(sides)

    def _with_vector(self, depth: int) -> str:
        left, right = self._vector(depth), self._vector(depth)
        labels = ", ".join(self._random.sample(self.labels, self._pick((1, 1, 2))))
        matching = f"{self._pick(('on', 'ignoring'))} ({labels})" if self._chance(0.5) else ""
        if self._chance(0.3):
            return f"({left}) {self._pick(SET_OPERATORS)} {matching} ({right})"
        if matching and self._chance(0.5):
            # One sample a group on the one side, so that most of these have an answer.
            right = f"max by (instance) ({right})"
            matching = "on (instance) group_left"
        operator = self._pick((*ARITHMETIC, *COMPARISONS))
        boolean = " bool" if operator in COMPARISONS and self._chance(0.4) else ""
        return f"({left}) {operator}{boolean} {matching} ({right})"

    def _function(self, depth: int) -> str:
        inner = self._vector(depth)
        forms = (
            f"{self._pick(MATH_FUNCTIONS)}({inner})",
            f"-({inner})",
            f"clamp({inner}, -10, {self._pick(NUMBERS)})",
            f'label_replace({inner}, "host", "$1", "instance", "(.):.*")',
            f'label_join({inner}, "type", "-", "instance", "mode")',
            f"histogram_quantile({self._pick(('0.1', '0.9', '1'))}, {inner})",
            f"vector({self._scalar(depth)})",
        )
        return self._pick(forms)

    def _ranked(self, _depth: int) -> str:
        """Over values that are all different: which of two equal ones is taken is not defined."""
        metric = self._pick(("demo_memory_bytes", "demo_cpu_seconds_total"))
        form = self._pick(("topk", "bottomk"))
        return f"{form}{self._grouping()} ({self._pick((1, 3))}, {metric}{self._modifier()})"
