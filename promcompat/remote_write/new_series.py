"""The labels of series that are not known yet: checked, and identified for the database."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from promcompat.core.limits.label_limits import MAX_METRIC_NAME_BYTES, MAX_SERIES_BYTES, LabelLimits
from promcompat.core.model import Labels, SeriesIdentity
from promcompat.core.series_identity import fingerprint_of_text
from promcompat.remote_write.label_kernels import describe_keys
from promcompat.remote_write.series_key import InvalidLabelsError, decode_series_key


def identify_usual(keys: Sequence[bytes], limits: LabelLimits) -> dict[bytes, SeriesIdentity]:
    """The identities of keys that are written as usual: sorted, plain ASCII, within the limits.

    Nearly all are. Decoding such a label set into objects would take ten times as long.
    """
    joined = b"".join(keys)
    ends = np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)))
    texts, documents = np.empty(len(joined), np.uint8), np.empty(len(joined) + 2 * len(keys), "u1")
    places = np.empty((len(keys), 4), np.int64)
    view = np.frombuffer(joined, np.uint8)
    describe_keys(view, ends, _limits_array(limits), texts, documents, places)
    found: dict[bytes, SeriesIdentity] = {}
    text_first = document_first = 0
    text, document = texts.tobytes(), documents.tobytes()
    for key, (first, end, text_end, document_end) in zip(keys, places.tolist(), strict=True):
        if first >= 0:
            found[key] = SeriesIdentity(
                fingerprint_of_text(text[text_first:text_end]),
                joined[first:end].decode(),
                document[document_first:document_end].decode(),
            )
        text_first, document_first = text_end, document_end
    return found


def _limits_array(limits: LabelLimits) -> np.ndarray:
    return np.array(
        [
            min(limits.max_names, limits.max_names_of_info),
            limits.max_name_bytes,
            limits.max_value_bytes,
            min(limits.max_value_bytes, MAX_METRIC_NAME_BYTES),
            MAX_SERIES_BYTES,
        ],
        np.int64,
    )


class LabelsOfKeys(Mapping[bytes, Labels]):
    """The label sets of series keys; they are decoded when somebody asks for them."""

    __slots__ = ("_labels",)

    def __init__(self, labels: dict[bytes, Labels | None]) -> None:
        """None stands for a label set that was not decoded, but is known to be valid."""
        self._labels = labels

    def __getitem__(self, key: bytes) -> Labels:
        labels = self._labels[key]
        if labels is None:
            labels = self._labels[key] = decode_series_key(key)
        return labels

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


class NewSeries:
    """Checks the labels of series that are not known, each distinct key once."""

    __slots__ = ("_labels", "_limits", "identities", "invalid", "refused")

    def __init__(self, limits: LabelLimits) -> None:
        self._limits = limits
        self._labels: dict[bytes, Labels | None] = {}
        self.identities: dict[bytes, SeriesIdentity] = {}
        self.invalid: dict[bytes, str] = {}
        self.refused: dict[bytes, str] = {}

    @property
    def labels(self) -> LabelsOfKeys:
        """The label sets of the keys that were accepted, in their order."""
        return LabelsOfKeys(self._labels)

    def accept(self, keys: Sequence[bytes]) -> list[bool]:
        """Which of these series can be stored. Raises BadDataError when labels are malformed."""
        self.identities |= identify_usual(keys, self._limits)
        return [self._accepts(key) for key in keys]

    def _accepts(self, key: bytes) -> bool:
        if key in self._labels:
            return True
        if key in self.identities:
            self._labels[key] = None
            return True
        return key not in self.invalid and key not in self.refused and self._is_valid(key)

    def _is_valid(self, key: bytes) -> bool:
        if len(key) > self._limits.max_key_bytes:
            self.refused[key] = (
                f"the labels of a series take {len(key)} bytes, more than the limits allow"
            )
            return False
        try:
            labels = decode_series_key(key)
        except InvalidLabelsError as exc:
            self.invalid[key] = str(exc)
            return False
        if fault := self._limits.fault_of(labels):
            self.refused[key] = fault
            return False
        self._labels[key] = labels
        return True
