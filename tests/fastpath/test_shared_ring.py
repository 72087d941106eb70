"""Rings in the keeper's memory: several objects, one truth, and nothing lost when a writer is killed."""

import os
import signal
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GUARD = 16_384
CAPACITY = 131_072
USABLE = CAPACITY - GUARD
MAGIC = 0x31474E4952524741


def words(fd: int) -> tuple[int, ...]:
    return struct.unpack("=6Q", os.pread(fd, 48, 0))


def poke(fd: int, offset: int, found: bytes) -> None:
    """Put bytes into the ring without counting them, as a process does that is killed inside read(2)."""
    at = offset % CAPACITY
    os.pwrite(fd, found[: CAPACITY - at], 4096 + at)
    os.pwrite(fd, found[CAPACITY - at :], 4096)


def guard_after(fd: int, head: int) -> bytes:
    at = head % CAPACITY
    return (os.pread(fd, CAPACITY, 4096) * 2)[at : at + GUARD]


# ---- One truth


def test_every_object_sees_the_same(fastpath: ModuleType, ring_memory: int) -> None:
    with (
        closing(fastpath.ByteRing.shared(ring_memory)) as one,
        closing(fastpath.ByteRing.shared(ring_memory)) as other,
    ):
        assert (other.head, other.base, other.keep, other.input_applied) == (0, 0, 0, 0)
        assert other.capacity_bytes == CAPACITY
        assert other.room_bytes == USABLE
        one.recover()
        one.append(b"hello")
        one.keep = 2
        one.input_applied = 77
        assert (other.head, other.keep, other.input_applied) == (5, 2, 77)
        assert other.view(0, 5) == b"hello"
        assert other.room_bytes == USABLE - 3


def test_words_and_bytes_are_where_the_protocol_says(fastpath: ModuleType, ring_memory: int) -> None:
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        ring.recover()
        ring.append(bytes(range(256)) * 200)
        ring.keep = 51_000
        ring.append(b"tail" * 16_000)
        ring.input_applied = 3
    assert words(ring_memory)[:5] == (MAGIC, CAPACITY, 115_200, 51_000, 3)
    assert os.pread(ring_memory, 4, 4096 + 51_200) == b"tail"
    assert os.pread(ring_memory, 4, 4096 + 115_196) == b"tail"


def test_descriptor_may_be_closed(fastpath: ModuleType, ring_memory: int) -> None:
    with closing(fastpath.ByteRing.shared(os.dup(ring_memory))) as ring:
        ring.recover()
        ring.append(b"abc")
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        assert ring.view(0, 3) == b"abc"


def test_what_was_emptied_stays_empty(fastpath: ModuleType, ring_memory: int) -> None:
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        ring.recover()
        ring.append(b"x" * 50_000)
        ring.keep = 50_000
        ring.release_memory()
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        assert (ring.base, ring.head) == (50_000, 50_000)
        assert ring.recover() == 0


@pytest.mark.parametrize("head", [0, 1, 4095, 4096, 65_536, 100_000, 131_071, 500_000])
def test_release_memory_leaves_the_guard(fastpath: ModuleType, ring_memory: int, head: int) -> None:
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        ring.restart(head)
        ring.append(b"x" * 60_000)
        ring.keep = ring.head
        ring.release_memory()
        assert guard_after(ring_memory, ring.head) == b"\xff" * GUARD
        # Of 32 pages 5 or 6 are touched by the guard and the header has one.
        assert os.fstat(ring_memory).st_blocks * 512 <= 7 * 4096


# ---- Broken memory


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes of header"),
        (bytes(47), "47 bytes of header"),
        (struct.pack("=6Q", MAGIC + 1, CAPACITY, 0, 0, 0, 0), "magic"),
        (struct.pack("=6Q", MAGIC, 0, 0, 0, 0, 0), "power of two"),
        (struct.pack("=6Q", MAGIC, 65_536, 0, 0, 0, 0), "power of two"),
        (struct.pack("=6Q", MAGIC, CAPACITY + 4096, 0, 0, 0, 0), "power of two"),
        (struct.pack("=6Q", MAGIC, 2**63, 0, 0, 0, 0), "power of two"),
        (struct.pack("=6Q", MAGIC, 2**64 - 1, 0, 0, 0, 0), "power of two"),
        (struct.pack("=6Q", MAGIC, CAPACITY, 2**63, 0, 0, 0), "head"),
        (struct.pack("=6Q", MAGIC, 2 * CAPACITY, 0, 0, 0, 0), "too small"),
    ],
)
def test_refuses_what_is_no_ring_memory(fastpath: ModuleType, content: bytes, message: str) -> None:
    fd = os.memfd_create("test-ring")
    try:
        os.ftruncate(fd, 4096 + CAPACITY if len(content) == 48 else len(content))
        os.pwrite(fd, content, 0)
        with pytest.raises(ValueError, match=message):
            fastpath.ByteRing.shared(fd)
    finally:
        os.close(fd)


def test_refuses_what_it_may_not_write(fastpath: ModuleType, ring_memory: int) -> None:
    read_only = os.open(f"/proc/self/fd/{ring_memory}", os.O_RDONLY)
    with pytest.raises(OSError, match="Permission denied"):
        fastpath.ByteRing.shared(read_only)
    os.close(read_only)
    with pytest.raises(OSError, match="Bad file descriptor"):
        fastpath.ByteRing.shared(-1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.integers(0, 2**64 - 1),
    keep=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**64 - 1),
    start=st.integers(0, 2**63 - 1),
    n_bytes=st.integers(0, 200_000),
)
def test_nonsense_in_the_header_is_survived(
    fastpath: ModuleType, ring_memory: int, head: int, keep: int, first: int, start: int, n_bytes: int
) -> None:
    os.pwrite(ring_memory, struct.pack("=6Q", MAGIC, CAPACITY, 0, 0, 0, 0), 0)
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        ring.recover()
        # Another process writes whatever it likes; ours must stay inside the memory it has mapped.
        os.pwrite(ring_memory, struct.pack("=6Q", 1, 2, head, keep, 3, first), 0)
        assert 0 <= ring.room_bytes <= USABLE
        assert ring.head - USABLE <= ring.base <= ring.head
        calls: list[Callable[[], object]] = [
            lambda: ring.view(start, start + n_bytes),
            lambda: bytes(ring.view(ring.base, ring.head)),
            lambda: ring.append(bytes(n_bytes)),
            lambda: ring.recover(),
            lambda: fastpath.write_frames(-1, ring, start, start + n_bytes, 64),
        ]
        for call in calls:
            try:
                call()
            except (IndexError, BufferError, OSError, OverflowError, ValueError):
                continue


# ---- Taking over


def test_a_writer_recovers_first(fastpath: ModuleType, ring_memory: int) -> None:
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        calls: list[Callable[[], object]] = [
            lambda: ring.append(b"x"),
            lambda: ring.read_fd(0, 1),
            lambda: ring.release_memory(),
            lambda: fastpath.MuxReceiver(masked=True, max_payload_bytes=1).open(1, ring, None),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=r"recover\(\)"):
                call()
        ring.recover()
        ring.append(b"x")


def test_a_ring_of_its_own_is_not_recovered(fastpath: ModuleType) -> None:
    with (
        closing(fastpath.ByteRing(CAPACITY)) as ring,
        pytest.raises(ValueError, match="only a shared ring"),
    ):
        ring.recover()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    head=st.integers(0, 300_000),
    kept=st.sampled_from([0, 1, 1000, USABLE - 1]),
    found=st.one_of(
        st.binary(max_size=200),
        st.sampled_from([b"", b"\x00", b"\xff\xffx", b"x\xff", b"\x00" * GUARD, b"y" * GUARD]),
    ),
)
def test_recovers_what_was_not_counted(
    fastpath: ModuleType, ring_memory: int, head: int, kept: int, found: bytes
) -> None:
    with closing(fastpath.ByteRing.shared(ring_memory)) as killed:
        killed.restart(head)
        killed.append(b"k" * kept)
        head = killed.head
        found = found[: killed.room_bytes].rstrip(b"\xff")
        poke(ring_memory, head, found)
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        assert ring.head == head
        assert ring.recover() == len(found)
        assert ring.head == head + len(found)
        assert ring.view(head - kept, ring.head) == b"k" * kept + found
        assert guard_after(ring_memory, ring.head) == b"\xff" * GUARD
        assert ring.recover() == 0


def test_recovers_no_more_than_there_was_room_for(fastpath: ModuleType, ring_memory: int) -> None:
    with closing(fastpath.ByteRing.shared(ring_memory)) as killed:
        killed.recover()
        killed.append(b"k" * (USABLE - 10))
        poke(ring_memory, killed.head, b"f" * 11)
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        assert ring.recover() == 10
        assert ring.view(0, USABLE) == b"k" * (USABLE - 10) + b"f" * 10


@pytest.mark.parametrize("delay", range(8))
def test_nothing_is_lost_when_a_reader_is_killed(fastpath: ModuleType, ring_memory: int, delay: int) -> None:
    # The reader copies a pattern without 0xFF from a pipe. What it has not read is still in the pipe, so
    # ring and pipe together must give the pattern without a hole or a repetition.
    pattern = bytes(i * 7 % 251 for i in range(251)) * 4096
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    with closing(fastpath.ByteRing.shared(ring_memory)) as watched:
        child = os.fork()
        if child == 0:
            ring = fastpath.ByteRing.shared(ring_memory)
            ring.recover()
            while True:
                ring.keep = ring.head
                ring.read_fd(reader, 5_000)
        sent = 0
        try:
            while watched.head < 150_000 + delay * 30_000:
                with suppress(BlockingIOError):
                    sent += os.write(writer, pattern[sent : sent + 3_001])
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    os.close(writer)
    with closing(fastpath.ByteRing.shared(ring_memory)) as ring:
        ring.recover()
        in_ring = bytes(ring.view(ring.base, ring.head))
        base, head = ring.base, ring.head
    in_pipe = b""
    while piece := os.read(reader, 65_536):
        in_pipe += piece
    os.close(reader)
    assert in_ring + in_pipe == pattern[base:sent]
    assert head + len(in_pipe) == sent
