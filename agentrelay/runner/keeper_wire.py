"""Messages between runner and keeper: length-prefixed JSON with descriptors beside it.

docs/protocol.md section 4. `Inbox` is the framing, without I/O; `Wire` puts it on a non-blocking unix socket.

Descriptors come out of `recvmsg` beside some bytes, not beside a message. They arrive no later than the first
byte of their message and in the order they were sent, and the type of a message says how many it has; so
they wait in a queue until their message is whole.

The keeper imports this module: stdlib only.
"""

import array
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from agentrelay.errors import KeeperError

VERSION = 1
"""The version of docs/protocol.md section 4 that this code speaks."""

READY = "ready"
LOCKED = "another keeper holds the lock"
"""What a keeper says to who started it; anything else is why it cannot be one."""

MAX_MESSAGE_BYTES = 8 << 20
"""A command and an environment: the kernel takes about 2 MiB of both, and JSON may write it longer."""

MAX_QUEUED_BYTES = 16 << 20
"""A peer that leaves this much unread is not reading any more."""

DESCRIPTORS = {"held": 2, "spawned": 2, "adopt": 2}
"""How many descriptors a message of a type has: PTY master, ring memory."""

_LENGTH = struct.Struct(">I")
_READ_BYTES = 65_536
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_ANCILLARY_BYTES = socket.CMSG_SPACE(16 * array.array("i").itemsize)


class Message(NamedTuple):
    """A message that has arrived; `fds` belong to who takes it."""

    type: str
    payload: dict[str, Any]
    fds: list[int]


class Inbox:
    """Puts messages together from bytes and descriptors as they arrive."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._fds: deque[int] = deque()

    def receive(self, data: bytes, fds: Sequence[int]) -> None:
        """Take what one `recvmsg` gave; the descriptors belong to the inbox until their message is taken."""
        self._data += data
        self._fds.extend(fds)

    def next(self) -> Message | None:
        """Give the next whole message, or None.

        Raises:
            KeeperError: the peer broke the framing; nothing more can be read.
        """
        if len(self._data) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._data)
        if size > MAX_MESSAGE_BYTES:
            raise KeeperError(
                f"{size} bytes in one message on the keeper's socket; at most {MAX_MESSAGE_BYTES}"
            )
        end = _LENGTH.size + size
        if len(self._data) < end:
            return None
        kind, payload = _parse(bytes(self._data[_LENGTH.size : end]))
        del self._data[:end]
        count = DESCRIPTORS.get(kind, 0)
        if len(self._fds) < count:
            raise KeeperError(f"{kind!r} came with {len(self._fds)} descriptors, not {count}")
        return Message(kind, payload, [self._fds.popleft() for _ in range(count)])

    def close(self) -> None:
        """Close the descriptors whose message never came."""
        while self._fds:
            os.close(self._fds.popleft())


def _parse(text: bytes) -> tuple[str, dict[str, Any]]:
    try:
        envelope = json.loads(text)
    except ValueError as error:
        raise KeeperError(f"not JSON on the keeper's socket: {error}") from None
    if isinstance(envelope, dict):
        kind, payload = envelope.get("type"), envelope.get("payload", {})
        if isinstance(kind, str) and isinstance(payload, dict):
            return kind, payload
    raise KeeperError('a keeper message is {"type": string, "payload": object}')


def frame(kind: str, payload: dict[str, Any]) -> bytes:
    """Give the bytes of one message."""
    text = json.dumps({"type": kind, "payload": payload}, separators=(",", ":")).encode()
    return _LENGTH.pack(len(text)) + text


class Wire:
    """One end of a keeper connection: a non-blocking socket with an inbox and a queue of what is to be sent.

    Args:
        sock: a connected unix stream socket; owned from here on.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._inbox = Inbox()
        self._queue: deque[tuple[memoryview, list[int]]] = deque()
        self._queued_bytes = 0

    def fileno(self) -> int:
        """Give the socket's descriptor, -1 once closed."""
        return self._sock.fileno()

    @property
    def pending(self) -> bool:
        """Whether something waits for the socket to become writable."""
        return bool(self._queue)

    def receive(self) -> list[Message] | None:
        """Read what is there: the messages that are whole now, or None at the end of the connection.

        Raises:
            KeeperError: the peer broke the framing, or this process has too many files open to take more.
            OSError: the connection failed.
        """
        ended = False
        while True:
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(_READ_BYTES, _ANCILLARY_BYTES, _CLOEXEC)
            except BlockingIOError:
                break
            self._inbox.receive(data, _descriptors(ancillary))
            if flags & socket.MSG_CTRUNC:
                raise KeeperError("descriptors were lost: too many files are open (see ulimit -n)")
            if not data:
                ended = True
                break
        messages = []
        while (message := self._inbox.next()) is not None:
            messages.append(message)
        return None if ended and not messages else messages

    def send(self, kind: str, payload: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send a message, or queue what the socket does not take; `fds` stay the caller's.

        Raises:
            KeeperError: the peer has not been reading for too long.
            OSError: the connection failed.
        """
        data = frame(kind, payload)
        self._queued_bytes += len(data)
        if self._queued_bytes > MAX_QUEUED_BYTES:
            raise KeeperError(f"{self._queued_bytes} bytes wait for a peer that does not read")
        # Copies: while these wait the caller may close its own, whose numbers then come to mean other files.
        self._queue.append((memoryview(data), [os.dup(fd) for fd in fds]))
        self.flush()

    def flush(self) -> None:
        """Send what is queued, as far as the socket takes it.

        Raises:
            OSError: the connection failed.
        """
        while self._queue:
            data, fds = self._queue[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sent = self._sock.sendmsg([data], rights)
            except BlockingIOError:
                return
            self._queued_bytes -= sent
            while fds:
                os.close(fds.pop())
            if sent < len(data):
                self._queue[0] = (data[sent:], fds)
            else:
                self._queue.popleft()

    def close(self) -> None:
        """Close the socket and every descriptor that is still on its way."""
        self._sock.close()
        self._inbox.close()
        while self._queue:
            for fd in self._queue.popleft()[1]:
                os.close(fd)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
