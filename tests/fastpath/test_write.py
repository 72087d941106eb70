"""Direct writes: frames from the ring to a socket, or a range of a buffer."""

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

CAPACITY = 131_072

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    sender, receiver = socket.socketpair()
    with sender, receiver:
        sender.setblocking(False)
        yield sender, receiver


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    offset=st.integers(0, 2**40),
    n_bytes=st.integers(0, 200) | st.sampled_from([65_535, 65_536, 70_000]),
    frame_bytes=st.sampled_from([20, 125, 126, 65_535, 65_536, 2**40]),
)
def test_writes_whole_frames(
    fastpath: ModuleType, pair: Pair, offset: int, n_bytes: int, frame_bytes: int
) -> None:
    sender, receiver = pair
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
    data = bytes(i % 251 for i in range(n_bytes))
    pieces = [data[at : at + frame_bytes] for at in range(0, n_bytes, min(frame_bytes, CAPACITY))]
    expected = b"".join(Frame(Opcode.BINARY, piece).serialize(mask=False) for piece in pieces)
    with closing(fastpath.ByteRing(CAPACITY, offset=offset)) as ring:
        ring.append(data)
        taken = b""
        position, rest = offset, b""
        while position < offset + n_bytes or rest:
            if rest:
                rest = rest[max(fastpath.write_fd(sender.fileno(), rest, 0, len(rest)), 0) :]
            else:
                position, rest = fastpath.write_frames(
                    sender.fileno(), ring, position, offset + n_bytes, frame_bytes
                )
            taken += drained(receiver)
        assert taken == expected


def drained(receiver: socket.socket) -> bytes:
    taken = b""
    with contextlib.suppress(BlockingIOError):
        while data := receiver.recv(1 << 20, socket.MSG_DONTWAIT):
            taken += data
    return taken


def test_writes_a_range_that_wraps_around(fastpath: ModuleType, pair: Pair) -> None:
    sender, receiver = pair
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(b"." * (CAPACITY - 2))
        ring.append(b"wrapped")
        position = CAPACITY + 5
        assert fastpath.write_frames(sender.fileno(), ring, CAPACITY - 2, position, 64) == (position, b"")
        assert receiver.recv(100) == b"\x82\x07wrapped"


@pytest.mark.parametrize("frame_bytes", [1000, 5000, 100_000])
def test_gives_back_what_a_full_socket_did_not_take(
    fastpath: ModuleType, pair: Pair, frame_bytes: int
) -> None:
    sender, receiver = pair
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data = bytes(i % 251 for i in range(100_000))
    frames = b"".join(
        Frame(Opcode.BINARY, data[at : at + frame_bytes]).serialize(mask=False)
        for at in range(0, len(data), frame_bytes)
    )
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(data)
        position, rest = fastpath.write_frames(sender.fileno(), ring, 0, 100_000, frame_bytes)
        assert position % frame_bytes == 0
        assert rest
        # As long as nobody reads, a frame is given back whole.
        full = fastpath.write_frames(sender.fileno(), ring, 0, 10, frame_bytes)
        assert full == (10, b"\x82\x0a" + data[:10])
        taken = drained(receiver)
        whole = -(-position // frame_bytes)
        header_bytes = len(fastpath.frame_header(min(frame_bytes, 100_000)))
        assert taken + rest == frames[: position + whole * header_bytes]


def test_a_broken_connection_is_an_error(fastpath: ModuleType, pair: Pair) -> None:
    sender, receiver = pair
    receiver.close()
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(b"abc")
        with pytest.raises(BrokenPipeError):
            fastpath.write_frames(sender.fileno(), ring, 0, 3, 64)
    with pytest.raises(BrokenPipeError):
        fastpath.write_fd(sender.fileno(), b"abc", 0, 3)


def test_a_closed_descriptor_is_an_error(fastpath: ModuleType) -> None:
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(b"abc")
        for fd in (-1, 1_000_000):
            with pytest.raises(OSError, match="Bad file descriptor"):
                fastpath.write_frames(fd, ring, 0, 3, 64)
            with pytest.raises(OSError, match="Bad file descriptor"):
                fastpath.write_fd(fd, b"abc", 0, 3)


def test_refuses_bad_ranges(fastpath: ModuleType, pair: Pair) -> None:
    fd = pair[0].fileno()
    with closing(fastpath.ByteRing(CAPACITY, offset=10)) as ring:
        ring.append(b"abc")
        for start, end in ((9, 13), (10, 14), (12, 11), (-5, 13), (2**62, 2**62 + 1)):
            with pytest.raises(IndexError):
                fastpath.write_frames(fd, ring, start, end, 64)
        for frame_bytes in (0, -1):
            with pytest.raises(ValueError, match="frame_bytes"):
                fastpath.write_frames(fd, ring, 10, 13, frame_bytes)
        assert fastpath.write_frames(fd, ring, 11, 11, 64) == (11, b"")
    for start, end in ((-1, 2), (2, 1), (0, 4)):
        with pytest.raises(IndexError):
            fastpath.write_fd(fd, b"abc", start, end)


def test_writes_a_range_of_any_buffer(fastpath: ModuleType, pair: Pair) -> None:
    sender, receiver = pair
    for buffer in (b"abcdef", bytearray(b"abcdef"), memoryview(b"abcdef")):
        assert fastpath.write_fd(sender.fileno(), buffer, 2, 5) == 3
        assert receiver.recv(100) == b"cde"
    assert fastpath.write_fd(sender.fileno(), b"abc", 3, 3) == 0


def test_does_not_block_on_a_blocking_socket(pair: Pair) -> None:
    # The twin needs a non-blocking socket, as the contract says; the compiled module does not rely on it.
    from agentrelay._fastpath import ByteRing, write_fd, write_frames

    sender, _ = pair
    sender.setblocking(True)
    with closing(ByteRing(CAPACITY)) as ring:
        ring.append(bytes(CAPACITY))
        while not write_frames(sender.fileno(), ring, 0, CAPACITY, CAPACITY)[1]:
            assert os.get_blocking(sender.fileno())
    assert write_fd(sender.fileno(), b"x", 0, 1) == -1
