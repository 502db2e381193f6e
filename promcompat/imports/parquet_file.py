"""Samples as Parquet: a row for each sample, with the exact bits of its value.

Columns: `name`, `labels` (the other labels as a JSON object), `timestamp` (milliseconds, UTC),
`value`, and `histogram` of samples that are native histograms, as a JSON object of
`promcompat.imports.histogram_objects`; one of the last two is null. Names and labels are in
dictionaries; values are not, as a dictionary would make all NaNs one, and lose stale markers.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, BinaryIO, Final, Self

import numpy as np
import orjson

from promcompat.core.errors import NotSupportedError, PromcompatError
from promcompat.core.histograms.columns import (
    Histograms,
    histogram_cells,
    histogram_numbers,
    is_histogram,
    without_histogram_bits,
)
from promcompat.core.histograms.validation import find_faults
from promcompat.core.model import METRIC_NAME, FloatArray, Labels, SampleBlock, WriteBatch
from promcompat.imports.histogram_objects import checked_object, histogram_objects, histograms_of

_ROWS_AT_ONCE: Final = 100_000
_COLUMNS: Final = ("name", "labels", "timestamp", "value")
_HISTOGRAM: Final = "histogram"


class ParquetError(PromcompatError):
    """The file cannot be written or read as samples."""


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise NotSupportedError(
            "Parquet needs the Python package pyarrow: pip install 'promcompat[parquet]'"
        ) from exc
    return pyarrow, pyarrow.parquet


class ParquetStream:
    """Blocks of samples as the bytes of a file, piece by piece."""

    def __init__(self) -> None:
        """Raises NotSupportedError without pyarrow."""
        self._arrow, parquet = _pyarrow()
        self._schema = self._arrow.schema(
            [
                ("name", self._arrow.dictionary(self._arrow.int32(), self._arrow.string())),
                ("labels", self._arrow.dictionary(self._arrow.int32(), self._arrow.string())),
                ("timestamp", self._arrow.timestamp("ms", tz="UTC")),
                ("value", self._arrow.float64()),
                (_HISTOGRAM, self._arrow.string()),
            ]
        )
        self._sink = _Sink()
        self._writer = parquet.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            use_dictionary=["name", "labels"],
            column_encoding={"timestamp": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"},
        )

    def rows(self, block: SampleBlock) -> Iterator[bytes]:
        """The samples of a block, as a row group."""
        if not len(block.timestamps):
            return
        rows = np.repeat(np.arange(len(block.labels), dtype=np.int32), np.diff(block.offsets))
        columns = [
            self._texts(rows, [labels.get(METRIC_NAME) for labels in block.labels]),
            self._texts(rows, [_labels_json(labels) for labels in block.labels]),
            self._arrow.array(block.timestamps).cast(self._schema.field("timestamp").type),
            *self._samples(block),
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))
        yield self._sink.take()

    def end(self) -> bytes:
        """The end of the file; nothing may be written behind it."""
        self._writer.close()
        return self._sink.take()

    def _samples(self, block: SampleBlock) -> tuple[Any, Any]:
        """The columns of values and of histograms."""
        values, n_rows = self._arrow.array(block.values), len(block.values)
        if block.histograms is None or not (refers := is_histogram(block.values)).any():
            return values, self._arrow.nulls(n_rows, self._arrow.string())
        found = block.histograms.take(histogram_numbers(block.values[refers]))
        texts: list[str | None] = [None] * n_rows
        shown = histogram_objects(found)
        for row, one in zip(np.flatnonzero(refers).tolist(), shown, strict=True):
            texts[row] = orjson.dumps(one).decode()
        histograms = self._arrow.array(texts, self._arrow.string())
        return self._arrow.array(block.values, mask=refers), histograms

    def _texts(self, rows: Any, texts: list[str]) -> Any:
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        places = np.array([distinct[text] for text in texts], np.int32)
        return self._arrow.DictionaryArray.from_arrays(places[rows], list(distinct))


class _Sink:
    """A file for pyarrow, of which the bytes are taken as they are written."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._n_bytes = 0

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._n_bytes += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._n_bytes

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """What was written is still there to be taken."""

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


class ParquetWriter:
    """Writes blocks of samples; the file appears when the context ends without an error."""

    def __init__(self, file: Path) -> None:
        """Raises NotSupportedError without pyarrow."""
        self._stream = ParquetStream()
        self._file = file
        self._unfinished = file.with_name(f"{file.name}.unfinished")
        self._output: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self._output = self._unfinished.open("wb")
        except OSError as exc:
            raise self._fault(exc) from exc
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._output is not None
        try:
            with self._output:
                if error is None:
                    self._output.write(self._stream.end())
            if error is None:
                self._unfinished.replace(self._file)
        except OSError as exc:
            raise self._fault(exc) from exc
        finally:
            self._unfinished.unlink(missing_ok=True)

    def write(self, block: SampleBlock) -> None:
        """Append the samples of a block as a row group. Raises ParquetError."""
        assert self._output is not None
        try:
            for piece in self._stream.rows(block):
                self._output.write(piece)
        except OSError as exc:
            raise self._fault(exc) from exc

    def _fault(self, error: OSError) -> ParquetError:
        return ParquetError(f"cannot write {self._file}: {error.strerror}")


def _labels_json(labels: Labels) -> str:
    return orjson.dumps(labels.without_name().as_dict()).decode()


class ParquetReader:
    """Reads what `ParquetWriter` wrote, or a file with the same columns."""

    def __init__(self, file: Path) -> None:
        """Raises ParquetError, and NotSupportedError without pyarrow."""
        self._arrow, parquet = _pyarrow()
        self._file = file
        try:
            self._reader = parquet.ParquetFile(file, read_dictionary=["name", "labels"])
        except (OSError, self._arrow.ArrowException) as exc:
            raise ParquetError(f"cannot read {file} as Parquet: {exc}") from exc
        names = set(self._reader.schema_arrow.names)
        # Files of earlier versions have no histograms.
        self._columns = [*_COLUMNS, *(names & {_HISTOGRAM})]
        missing = set(_COLUMNS) - names
        if missing:
            raise ParquetError(
                f"{file} has no column {sorted(missing)[0]}; expected {', '.join(_COLUMNS)}"
            )

    @property
    def n_rows(self) -> int:
        """How many samples the file has."""
        return int(self._reader.metadata.num_rows)

    def batches(self) -> Iterator[WriteBatch]:
        """The samples in bounded portions. Raises ParquetError."""
        try:
            for batch in self._reader.iter_batches(_ROWS_AT_ONCE, columns=self._columns):
                yield self._batch(batch)
        except (OSError, ValueError, self._arrow.ArrowException) as exc:
            raise ParquetError(f"cannot read {self._file}: {exc}") from exc

    def _batch(self, batch: Any) -> WriteBatch:
        names, name_rows = _dictionary(batch.column("name"))
        labels, label_rows = _dictionary(batch.column("labels"))
        stamps = batch.column("timestamp").cast(self._arrow.timestamp("ms", tz="UTC"))
        timestamps = stamps.cast(self._arrow.int64()).to_numpy()
        values, histograms = self._samples(batch)
        series = name_rows * len(labels) + label_rows
        distinct, rows = np.unique(series, return_inverse=True)
        known: dict[bytes, Labels] = {}
        keys = []
        for one in distinct.tolist():
            found = _labels_of(names[one // len(labels)], labels[one % len(labels)])
            keys.append(orjson.dumps(found.pairs))
            known[keys[-1]] = found
        written = WriteBatch.of_keys(
            [keys[row] for row in rows.tolist()], timestamps.astype(np.int64), values, known
        )
        return replace(written, histograms=histograms)

    def _samples(self, batch: Any) -> tuple[FloatArray, Histograms | None]:
        """The values, and the histograms that some of them refer to."""
        column = batch.column("value")
        values = column.to_numpy(zero_copy_only=False).astype(np.float64)
        if not column.null_count:
            return values, None
        texts = batch.column(_HISTOGRAM).to_pylist() if _HISTOGRAM in self._columns else []
        rows = np.flatnonzero(np.asarray(column.is_null()))
        histograms = histograms_of([_checked(texts[row] if texts else None) for row in rows])
        for fault in find_faults(histograms).values():
            raise ValueError(fault)
        values = without_histogram_bits(values)
        values[rows] = histogram_cells(np.arange(len(rows)))
        return values, histograms


def _dictionary(column: Any) -> tuple[list[str], Any]:
    """The distinct texts of a column, and the place of each row's text; nothing may be null."""
    if column.null_count:
        raise ValueError("a name or label set is missing")
    return column.dictionary.to_pylist(), column.indices.to_numpy().astype(np.int64)


def _checked(text: str | None) -> dict[str, Any]:
    if text is None:
        raise ValueError("a sample has neither a value nor a histogram")
    document = orjson.loads(text)
    if not isinstance(document, dict):
        raise ValueError(f"the histogram {text!r} is no JSON object")
    checked_object(document)
    return document


def _labels_of(name: str, text: str) -> Labels:
    document = orjson.loads(text)
    if not isinstance(document, dict) or not all(
        isinstance(value, str) for value in document.values()
    ):
        raise ValueError(f"the labels {text!r} are no JSON object of texts")
    if not name or "" in document:
        raise ValueError(f"the metric or a label of {name!r} with the labels {text!r} has no name")
    return Labels.of({**document, METRIC_NAME: name})
