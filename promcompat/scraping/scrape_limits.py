"""Why a scrape fails, and the limits of labels that make it fail."""

import re
from typing import Final

from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.texts.strconv import quote
from promcompat.scraping.configuration import ScrapeLimits

_SHOWN: Final = 50
_LEGACY_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LEGACY_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class ScrapeError(Exception):
    """The scrape fails; the text is the target's last error."""


class SampleLimitError(ScrapeError):
    """More samples than `sample_limit`."""


class BucketLimitError(ScrapeError):
    """A native histogram with more buckets than `native_histogram_bucket_limit`."""


class LabelLimitError(ScrapeError):
    """Labels that exceed a limit."""


def check_labels(labels: Labels, limits: ScrapeLimits) -> None:
    """Raises ScrapeError for missing names, and LabelLimitError, with the texts of Prometheus."""
    metric = labels.get(METRIC_NAME)
    if not metric:
        raise ScrapeError("missing metric name (__name__ label)")
    if not labels.pairs[0][0]:
        raise ScrapeError(f"invalid metric name or label names: {labels}")
    shown = metric[:_SHOWN]
    if limits.labels and len(labels) > limits.labels:
        raise LabelLimitError(
            f"label_limit exceeded (metric: {shown}, number of labels: {len(labels)}, "
            f"limit: {limits.labels})"
        )
    if not (limits.label_name_bytes or limits.label_value_bytes):
        return
    for name, value in labels:
        n_name, n_value = len(name.encode()), len(value.encode())
        if 0 < limits.label_name_bytes < n_name:
            raise LabelLimitError(
                f"label_name_length_limit exceeded (metric: {shown}, label name: {name[:_SHOWN]}, "
                f"length: {n_name}, limit: {limits.label_name_bytes})"
            )
        if 0 < limits.label_value_bytes < n_value:
            raise LabelLimitError(
                f"label_value_length_limit exceeded (metric: {shown}, label name: {name[:_SHOWN]}, "
                f"value: {quote(value[:_SHOWN])}, length: {n_value}, "
                f"limit: {limits.label_value_bytes})"
            )


def check_legacy_names(labels: Labels) -> None:
    """Raises ScrapeError, with Prometheus' text, for names that only UTF-8 allows."""
    if not _LEGACY_METRIC.fullmatch(labels.get(METRIC_NAME)) or not all(
        _LEGACY_LABEL.fullmatch(name) for name, _ in labels
    ):
        raise ScrapeError(f"invalid metric name or label names: {labels}")
