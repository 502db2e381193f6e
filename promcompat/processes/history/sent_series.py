"""Which series an import has sent, so that it is compared with these series of the service only.

A service has others in the same time: what it measures of itself, and what others write to it.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from promcompat.core.texts.file_faults import reading_fault
from promcompat.processes.history.series_keys import DIGEST_BYTES, digest_of, label_fields
from promcompat.processes.history.sources import HistoryImportError
from promcompat.remote_write.remote_pb2 import WriteRequest

_MAX_REMEMBERED: Final = 200_000


class SentSeries:
    """Digests of label sets. With a checkpoint they are also in a file beside it.

    `are_complete` says whether all series that the import has sent are here. They are not if it was
    begun by an earlier version, which kept no such file.
    """

    def __init__(self, checkpoint: Path | None, *, is_resumed: bool) -> None:
        """A resumed import continues the file; any other import begins it anew.

        Raises HistoryImportError for a file that cannot be read.
        """
        self._file = checkpoint and checkpoint.with_name(f"{checkpoint.name}.series")
        self._digests = set[bytes]()
        self._remembered: dict[bytes, bytes] = {}
        if self._file is not None:
            self._digests = _opened(self._file, is_resumed=is_resumed)
        self.are_complete = not is_resumed or len(self._digests) > 0
        if not self.are_complete:
            # With a file, the series from now on would pass for all when it is resumed again.
            self._file = None

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, keys: Iterable[bytes]) -> None:
        """Add series by their keys; see `Source.keys_of`. Raises HistoryImportError."""
        new = {self._digest(key) for key in keys} - self._digests
        self._digests |= new
        if self._file is None or not new:
            return
        try:
            with self._file.open("ab") as file:
                file.write(b"".join(new))
                file.flush()
                # The checkpoint, which is written later, must not outlive it.
                os.fsync(file.fileno())
        except OSError as exc:
            raise HistoryImportError(f"{self._file} cannot be written: {exc.strerror}") from exc

    def only_these(self, request: bytes) -> bytes:
        """A remote-write request without the series that were not sent."""
        series = WriteRequest.FromString(request).timeseries
        kept = [one for one in series if self._digest(label_fields(one)) in self._digests]
        if len(kept) == len(series):
            return request
        return WriteRequest(timeseries=kept).SerializeToString()

    def _digest(self, key: bytes) -> bytes:
        """Sources send the labels of a series in the same form in every window."""
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = digest_of(key)
        return found


def _opened(file: Path, *, is_resumed: bool) -> set[bytes]:
    """The digests in a file, which then ends behind the last whole one: the next is appended."""
    try:
        content = file.read_bytes() if file.exists() else b""
        whole = len(content) - len(content) % DIGEST_BYTES if is_resumed else 0
        if len(content) > whole:
            os.truncate(file, whole)
    except OSError as exc:
        raise HistoryImportError(f"{file} cannot be read: {reading_fault(exc)}") from exc
    return {content[at : at + DIGEST_BYTES] for at in range(0, whole, DIGEST_BYTES)}
