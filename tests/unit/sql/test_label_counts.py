"""Labels are counted as JSON, by a kernel whose table grows."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sql.series import label_counts
from sql.series.label_counts import LineCounter

TEXTS = st.text(max_size=4) | st.text('"\\\n\x01\x7füa', max_size=3)
SERIES = st.lists(st.dictionaries(TEXTS, TEXTS, max_size=4), max_size=30)


def counted(text: bytes, size: int) -> LineCounter:
    counter = LineCounter()
    for first in range(0, len(text), size):
        feeding = counter.feed(text[first : first + size])
        with pytest.raises(StopIteration):
            feeding.send(None)
    return counter


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_counts, "_BYTES_AT_ONCE", 40)
    monkeypatch.setattr(label_counts, "_FEWEST_ENTRIES", 1)
    monkeypatch.setattr(label_counts, "_FEWEST_KEY_BYTES", 1)


@given(series=SERIES, size=st.integers(1, 200))
def test_labels_are_counted_as_python_counts_them(series: list[dict[str, str]], size: int) -> None:
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in series)
    found = counted(lines.encode(), size).finish()
    expected = Counter(label for one in series for label in one.items() if label[1])
    assert (found.n_series, found.by_label()) == (len(series), expected)
    assert found.value_bytes.tolist() == [len(value.encode()) for value in found.values]


@given(line=st.binary(max_size=30) | st.text('{}":, \\ua', max_size=20).map(str.encode))
def test_any_bytes_are_counted_or_refused(line: bytes) -> None:
    try:
        counted(line + b"\n", 7).finish()
    except ValueError:
        return


@pytest.mark.parametrize(
    "text", [b'{"a": "b\n', b'{"a": \n', b'{"a": "1"}', b'{"a\\', b'{"a": "\\u00"}\n']
)
def test_what_is_cut_off_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON object of texts"):
        counted(text, 3).finish()
