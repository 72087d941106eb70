"""What `Screen` and the renderer's worker say to each other over their socket.

A request is a header and its data, and every one is answered before the next: one of a status and data.
"""

import socket
import struct
from enum import IntEnum
from typing import Final, NamedTuple

MAX_PIECE_BYTES: Final = 1 << 20
"""Output that is offered at once."""

MAX_ANSWER_BYTES: Final = 256 << 20
"""A snapshot of 1,000 by 1,000 cells, each of another colour, has 40 MB."""

_REQUEST = struct.Struct("=BIIIII")
_ANSWER = struct.Struct("=BI")
_LENGTH = struct.Struct("=I")


class Op(IntEnum):
    """What is asked, and what `first` and `second` mean."""

    OPEN = 1  # rows, cols; the data is the number of scrollback lines
    FEED = 2  # whether to answer; how much of the data was taken in a slice of time comes back
    RESIZE = 3  # rows, cols
    SNAPSHOT = 4  # most lines, most bytes
    TEXT = 5  # whether cells are wanted too
    CLOSE = 6


class Status(IntEnum):
    """How it went."""

    OK = 0
    NOTHING = 1  # there is none at this moment
    FAILED = 2  # and the screen is gone


class Request(NamedTuple):
    """A request; the data follows it."""

    op: int
    screen: int
    first: int
    second: int
    scrollback_lines: int
    n_bytes: int


def send_request(sock: socket.socket, request: Request, data: bytes | bytearray | memoryview = b"") -> None:
    """Send a request with its data.

    Raises:
        OSError: the worker is gone, or takes nothing any more.
    """
    sock.sendall(_REQUEST.pack(*request))
    if data:
        sock.sendall(data)


def receive_request(sock: socket.socket) -> tuple[Request, bytearray] | None:
    """Receive a request and its data; None once the other side has closed the socket.

    Raises:
        OSError: as recv(2).
    """
    try:
        request = Request(*_REQUEST.unpack(_receive(sock, _REQUEST.size)))
        return request, _receive(sock, request.n_bytes)
    except EOFError:
        return None


def send_answer(sock: socket.socket, status: Status, data: bytes = b"") -> None:
    """Answer a request.

    Raises:
        OSError: as send(2).
    """
    sock.sendall(_ANSWER.pack(status, len(data)) + data)


def receive_answer(sock: socket.socket) -> tuple[Status, bytearray]:
    """Receive an answer.

    Raises:
        EOFError: the worker has ended.
        ValueError: this is no answer.
        OSError: as recv(2); TimeoutError if it takes too long.
    """
    status, n_bytes = _ANSWER.unpack(_receive(sock, _ANSWER.size))
    if n_bytes > MAX_ANSWER_BYTES:
        raise ValueError(f"an answer of {n_bytes} bytes")
    return Status(status), _receive(sock, n_bytes)


def _receive(sock: socket.socket, n_bytes: int) -> bytearray:
    data = bytearray(n_bytes)
    rest = memoryview(data)
    while rest:
        received = sock.recv_into(rest)
        if not received:
            raise EOFError
        rest = rest[received:]
    return data


def pack_fed(taken_bytes: int, replies: list[bytes]) -> bytes:
    """Pack the answer to FEED: how much was taken, and what the terminal replied to it."""
    return _LENGTH.pack(taken_bytes) + pack_list(replies)


def unpack_fed(data: bytes | bytearray) -> tuple[int, list[bytes]]:
    """Unpack what `pack_fed` packed.

    Raises:
        struct.error: it is shorter than a number.
    """
    (taken_bytes,) = _LENGTH.unpack_from(data)
    return taken_bytes, unpack_list(data[_LENGTH.size :])


def pack_list(items: list[bytes]) -> bytes:
    """Pack byte strings one behind the other."""
    return b"".join(_LENGTH.pack(len(item)) + item for item in items)


def unpack_list(data: bytes | bytearray) -> list[bytes]:
    """Unpack what `pack_list` packed; what is cut short is left out."""
    items, at = [], 0
    while at + _LENGTH.size <= len(data):
        (n_bytes,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        items.append(bytes(data[at : at + n_bytes]))
        at += n_bytes
    return items
