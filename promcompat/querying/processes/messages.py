"""How two processes on one machine pass columns to each other: in memory that both see.

A message is a small packet on a socket, with a file in memory. Arrays are written into the file,
and read where they lie.
"""

import errno
import mmap
import os
import pickle
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

IS_SUPPORTED: Final = hasattr(os, "memfd_create") and hasattr(socket, "send_fds")
_ALIGNMENT: Final = 64
_PACKET: Final = struct.Struct("QQ")
"""The place in the file of the table that says where its parts are."""
_CONTROL_BYTES: Final = _ALIGNMENT
"""The first bytes of each file; the first of them is not 0 once the receiver shall stop."""


@dataclass(frozen=True, slots=True)
class Message:
    """What came, and the file that it came in."""

    content: Any
    shared: mmap.mmap

    @property
    def is_cancelled(self) -> bool:
        """Whether the sender no longer wants an answer."""
        return self.shared[0] != 0


class SentFile:
    """The file of a message that was sent; it stays until it is closed."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def cancel(self) -> None:
        """Tell the receiver to stop."""
        os.pwrite(self._descriptor, b"\1", 0)

    def close(self) -> None:
        """Forget the file; it exists as long as the receiver has it."""
        os.close(self._descriptor)


def send(channel: socket.socket, content: Any) -> SentFile:
    """Send what can be pickled. Raises OSError."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(content, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    descriptor = os.memfd_create("promcompat-query")
    try:
        os.pwrite(descriptor, bytes(_CONTROL_BYTES), 0)
        places, end = _write(descriptor, parts, _CONTROL_BYTES)
        (index,), _ = _write(descriptor, [memoryview(pickle.dumps(places))], end)
        socket.send_fds(channel, [_PACKET.pack(*index)], [descriptor])
    except BaseException:
        os.close(descriptor)
        raise
    return SentFile(descriptor)


def _write(
    descriptor: int, parts: Iterable[memoryview], end: int
) -> tuple[list[tuple[int, int]], int]:
    """Write parts behind each other; where each begins and ends, and where all end."""
    places = list[tuple[int, int]]()
    for part in parts:
        first = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = first + len(part)
        places.append((first, end))
        while first < end:
            first += os.pwrite(descriptor, part[len(part) - (end - first) :], first)
    return places, end


def receive(channel: socket.socket) -> Message:
    """The next message. Raises EOFError when the other process has gone, and OSError."""
    packet, descriptors, _, _ = socket.recv_fds(channel, _PACKET.size, 1)
    if not packet:
        raise EOFError
    if not descriptors:
        # The kernel drops the file that came.
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    try:
        shared = mmap.mmap(descriptors[0], 0)
    finally:
        os.close(descriptors[0])
    # The arrays refer to the mapping, which goes with the last of them.
    whole, (first, end) = memoryview(shared), _PACKET.unpack(packet)
    places: list[tuple[int, int]] = pickle.loads(whole[first:end])
    head, *buffers = (whole[first:end] for first, end in places)
    return Message(pickle.loads(head, buffers=buffers), shared)
