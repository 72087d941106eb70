"""A runner that has its output ready: frames are packed and masked beforehand, so only the rest is measured.

`python -m bench.source KIND PORT TOKEN DATA_BYTES` sends the corpus in frames of DATA_BYTES bytes:

- `agentrelay`: registers as runner `source` at HQ's PORT, and keeps to the limits HQ gives it;
- `websockets`: is the runner of the baseline at PORT;
- `raw`: is what the floor's hop connects to; it prints its port, and PORT is not used.

The command of a session is the number of bytes to send. As every program here it says R, waits for a key, and
then sends.
"""

import base64
import bisect
import json
import os
import select
import socket
import struct
import sys
from itertools import accumulate

from bench.corpus import make

Packed = tuple[bytes, list[int], list[int]]
"""The corpus as frames, and behind each frame: how many bytes of frames, and of data, that is."""


def websocket_frame(payload: bytes, opcode: int = 2) -> bytes:
    """Make a masked WebSocket frame."""
    key = os.urandom(4)
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
    else:
        head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
    mask = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload) ^ int.from_bytes(mask)
    return head + key + masked.to_bytes(size)


def pack(prefix: bytes | None, data_bytes: int) -> Packed:
    """Pack the corpus in frames of `data_bytes` bytes behind `prefix` each; None: no frames."""
    corpus = make()
    pieces = [corpus[start : start + data_bytes] for start in range(0, len(corpus), data_bytes)]
    frames = pieces if prefix is None else [websocket_frame(prefix + piece) for piece in pieces]
    return b"".join(frames), list(accumulate(map(len, frames))), list(accumulate(map(len, pieces)))


class Sender:
    """Sends one session, as fast as the socket takes it and the limit allows.

    Attributes:
        limit: offset before which it may send.
    """

    def __init__(self, connection: socket.socket, packed: Packed, n_bytes: int) -> None:
        self.limit = sys.maxsize
        self._connection = connection
        self._frames, self._frame_ends, self._data_ends = packed
        # The frames are sent whole, so the total ends with one.
        whole, part = divmod(n_bytes, self._data_ends[-1])
        self._left = whole, bisect.bisect_left(self._data_ends, part) + 1 if part else 0
        self._pos = 0
        self._base = 0

    def send(self) -> bool:
        """Send what can be sent now; tells whether the limit stopped it."""
        last_round = self._left[0] == 0
        end_frame = self._left[1] if last_round else len(self._frame_ends)
        # R is the stream's first byte.
        allowed = bisect.bisect_right(self._data_ends, self.limit - self._base - 1, 0, end_frame)
        end = self._frame_ends[allowed - 1] if allowed else 0
        if end <= self._pos:
            return True
        try:
            self._pos += self._connection.send(memoryview(self._frames)[self._pos : end])
        except BlockingIOError:
            return False
        if self._pos == self._frame_ends[-1] and not last_round:
            self._pos = 0
            self._base += self._data_ends[-1]
            self._left = self._left[0] - 1, self._left[1]
        return False

    @property
    def done(self) -> bool:
        """Whether everything is sent."""
        return self._left[0] == 0 and self._pos == (
            self._frame_ends[self._left[1] - 1] if self._left[1] else 0
        )


class Link:
    """The source's connection as a runner: frames in, frames out."""

    def __init__(self, kind: str, port: int, token: str, data_bytes: int) -> None:
        self._kind = kind
        self._data_bytes = data_bytes
        self._sender: Sender | None = None
        self._waiting: tuple[bytes, int] | None = None  # prefix and bytes of a session that awaits its key
        self._limit = 1 << 20
        path = "/ws/runner" if kind == "agentrelay" else "/link"
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n".encode()
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._connection.recv(4096)
        self._received = received.partition(b"\r\n\r\n")[2]
        if kind == "agentrelay":
            facts = {
                "protocol": 1,
                "runner_id": "source",
                "version": "0",
                "hostname": "-",
                "os": "-",
                "arch": "-",
            }
            self._say({"type": "register", "payload": facts})

    def run(self) -> None:
        """Serve until the other side is gone."""
        self._connection.setblocking(False)
        stopped = False
        while True:
            active = self._sender is not None and not self._sender.done
            writers = [self._connection] if active and not stopped else []
            readable, writable, _ = select.select([self._connection], writers, [])
            if readable:
                data = self._connection.recv(65536)
                if not data:
                    return
                self._received += data
                self._take_frames()
            if self._sender is not None and (writable or readable):
                stopped = self._sender.send()

    def _say(self, message: object) -> None:
        self._connection.sendall(websocket_frame(json.dumps(message).encode(), opcode=1))

    def _take_frames(self) -> None:
        data = self._received
        pos = 0
        while len(data) - pos >= 2:
            size, start = data[pos + 1], pos + 2
            if size == 126:
                if len(data) < pos + 4:
                    break
                size, start = int.from_bytes(data[pos + 2 : pos + 4]), pos + 4
            if len(data) < start + size:
                break
            self._take(data[pos] & 15, data[start : start + size])
            pos = start + size
        self._received = data[pos:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 1:
            self._take_text(json.loads(payload))
        elif opcode == 9:
            self._connection.sendall(websocket_frame(payload, opcode=10))
        elif opcode == 2 and self._kind == "agentrelay":
            if payload[0] == 3:
                self._limit = int.from_bytes(payload[16:24])
                if self._sender is not None:
                    self._sender.limit = self._limit
            elif payload[0] == 2:
                self._take_key(payload[8:])
        elif opcode == 2:
            self._take_key(payload[4:])

    def _take_text(self, message: dict[str, object]) -> None:
        if self._kind == "websockets":
            session, command = message["session"], message["command"]
            assert isinstance(session, int)
            assert isinstance(command, list)
            self._offer(session.to_bytes(4), int(command[0]))
        elif message["type"] == "start":
            start = message["payload"]
            assert isinstance(start, dict)
            started = {"session_id": start["session_id"], "stream": start["stream"], "epoch": "e", "pid": 1}
            started |= {"rows": 24, "cols": 80, "command": start["command"], "cwd": "/"}
            self._say({"type": "started", "payload": started})
            self._limit = start["limit"]
            self._offer(struct.pack(">BBHI", 1, 0, 0, start["stream"]), int(start["command"][0]))

    def _offer(self, prefix: bytes, n_bytes: int) -> None:
        self._sender = None
        self._waiting = prefix, n_bytes
        self._connection.sendall(websocket_frame(prefix + b"R"))

    def _take_key(self, keys: bytes) -> None:
        if self._waiting is not None and keys == b"g":
            prefix, n_bytes = self._waiting
            self._waiting = None
            self._sender = Sender(self._connection, pack(prefix, self._data_bytes), n_bytes)
            if self._kind == "agentrelay":
                self._sender.limit = self._limit
            self._sender.send()


def serve_raw(data_bytes: int) -> None:
    """Serve one connection after the other, for the floor's hop."""
    packed = pack(None, data_bytes)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        command = connection.makefile("rb").readline()
        connection.sendall(b"R")
        if connection.recv(1) != b"g":
            continue
        sender = Sender(connection, packed, int(command))
        try:
            while not sender.done:
                sender.send()
            while connection.recv(4096):
                pass
        except OSError:
            continue


def main() -> None:
    """Run the source."""
    kind, port, token, data_bytes = sys.argv[1:]
    if kind == "raw":
        serve_raw(int(data_bytes))
    else:
        Link(kind, int(port), token, int(data_bytes)).run()


if __name__ == "__main__":
    main()
