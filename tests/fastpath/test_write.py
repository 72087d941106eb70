"""Direct writes: one frame from the ring to a socket, or a range of a buffer."""

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


def read_exactly(receiver: socket.socket, n_bytes: int) -> bytes:
    return receiver.recv(n_bytes, socket.MSG_WAITALL) if n_bytes else b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(offset=st.integers(0, 2**40), n_bytes=st.integers(1, 200) | st.sampled_from([65_535, 65_536, 70_000]))
def test_writes_one_frame(fastpath: ModuleType, pair: Pair, offset: int, n_bytes: int) -> None:
    sender, receiver = pair
    data = bytes(i % 251 for i in range(n_bytes))
    with closing(fastpath.ByteRing(CAPACITY, offset=offset)) as ring:
        ring.append(data)
        expected = Frame(Opcode.BINARY, data).serialize(mask=False)
        assert fastpath.write_frame(sender.fileno(), ring, offset, offset + n_bytes) == len(expected)
        assert read_exactly(receiver, len(expected)) == expected


def test_writes_a_range_that_wraps_around(fastpath: ModuleType, pair: Pair) -> None:
    sender, receiver = pair
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(b"." * (CAPACITY - 2))
        ring.append(b"wrapped")
        assert fastpath.write_frame(sender.fileno(), ring, CAPACITY - 2, CAPACITY + 5) == 9
        assert receiver.recv(100) == b"\x82\x07wrapped"


def test_tells_what_a_full_socket_took(fastpath: ModuleType, pair: Pair) -> None:
    sender, receiver = pair
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(bytes(i % 251 for i in range(100_000)))
        written = fastpath.write_frame(sender.fileno(), ring, 0, 100_000)
        assert 10 < written < 100_010
        while (more := fastpath.write_fd(sender.fileno(), ring.view(0, 100_000), written - 10, 100_000)) >= 0:
            written += more
        assert fastpath.write_frame(sender.fileno(), ring, 0, 10) == -1
        frame = Frame(Opcode.BINARY, bytes(ring.view(0, 100_000))).serialize(mask=False)
        assert read_exactly(receiver, written) == frame[:written]


def test_a_broken_connection_is_an_error(fastpath: ModuleType, pair: Pair) -> None:
    sender, receiver = pair
    receiver.close()
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(b"abc")
        with pytest.raises(BrokenPipeError):
            fastpath.write_frame(sender.fileno(), ring, 0, 3)
    with pytest.raises(BrokenPipeError):
        fastpath.write_fd(sender.fileno(), b"abc", 0, 3)


def test_a_closed_descriptor_is_an_error(fastpath: ModuleType) -> None:
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(b"abc")
        for fd in (-1, 1_000_000):
            with pytest.raises(OSError, match="Bad file descriptor"):
                fastpath.write_frame(fd, ring, 0, 3)
            with pytest.raises(OSError, match="Bad file descriptor"):
                fastpath.write_fd(fd, b"abc", 0, 3)


def test_refuses_bad_ranges(fastpath: ModuleType, pair: Pair) -> None:
    fd = pair[0].fileno()
    with closing(fastpath.ByteRing(CAPACITY, offset=10)) as ring:
        ring.append(b"abc")
        for start, end in ((9, 13), (10, 14), (12, 11), (-5, 13), (2**62, 2**62 + 1)):
            with pytest.raises(IndexError):
                fastpath.write_frame(fd, ring, start, end)
        with pytest.raises(ValueError, match="empty"):
            fastpath.write_frame(fd, ring, 11, 11)
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
    from agentrelay._fastpath import ByteRing, write_fd, write_frame

    sender, _ = pair
    sender.setblocking(True)
    with closing(ByteRing(CAPACITY)) as ring:
        ring.append(bytes(CAPACITY))
        while write_frame(sender.fileno(), ring, 0, CAPACITY) >= 0:
            assert os.get_blocking(sender.fileno())
    assert write_fd(sender.fileno(), b"x", 0, 1) == -1
