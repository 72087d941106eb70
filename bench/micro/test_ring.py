"""Bytes into a ring, from memory and from a descriptor as a PTY is read, and out of it."""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from types import ModuleType
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

CAPACITY = 8_388_608
ROUNDS = 2_000

pytestmark = pytest.mark.benchmark(max_time=0.3, min_rounds=3)


@pytest.fixture(params=["own", "shared"])
def ring(fastpath: ModuleType, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Make a ring whose memory is all there, as it is once a session has written a ringful."""
    if request.param == "own":
        ring = fastpath.ByteRing(CAPACITY)
    else:
        fd = os.memfd_create("bench-ring")
        os.ftruncate(fd, 4096 + CAPACITY)
        os.pwrite(fd, struct.pack("=4Q", 0x31474E4952524741, CAPACITY, 0, 2**63 - 1), 0)
        ring = fastpath.ByteRing.shared(fd)
        os.close(fd)
        ring.restart(0)
    with closing(ring):
        for _ in range(0, CAPACITY, 65_536):
            ring.append(bytes(65_536))
        yield ring


def test_append(benchmark: BenchmarkFixture, ring: Any, chunk_bytes: int) -> None:
    benchmark.group = f"append, {chunk_bytes} bytes"
    benchmark.extra_info.update(frames=1, bytes=chunk_bytes)
    benchmark(ring.append, bytes(chunk_bytes))


def test_view(benchmark: BenchmarkFixture, ring: Any, chunk_bytes: int) -> None:
    benchmark.group = f"view, {chunk_bytes} bytes"
    benchmark.extra_info.update(frames=1, bytes=0)  # none of them is looked at
    start = ring.head - chunk_bytes

    def read() -> int:
        with ring.view(start, start + chunk_bytes) as view:
            return len(view)

    assert benchmark(read) == chunk_bytes


@pytest.fixture
def reader(
    benchmark: BenchmarkFixture, chunk_bytes: int
) -> Iterator[Callable[[Callable[[int], object]], None]]:
    """Give a function that measures how long another one takes to read a chunk from a pipe."""
    benchmark.group = f"read_fd, {chunk_bytes} bytes"
    benchmark.extra_info.update(frames=1, bytes=chunk_bytes)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    data = bytes(chunk_bytes)
    pedantic: Callable[..., Any] = benchmark.pedantic

    def fill() -> None:
        assert os.write(writer, data) == chunk_bytes

    yield lambda drain: pedantic(drain, args=(reader,), setup=fill, rounds=ROUNDS)
    os.close(reader)
    os.close(writer)


def test_read_fd(reader: Callable[[Callable[[int], object]], None], ring: Any, chunk_bytes: int) -> None:
    # Of 64 B, a second read(2) that only says that nothing is left would be as dear as the first: the reason
    # for SHORT_READ_BYTES.
    before = ring.head
    reader(lambda fd: ring.read_fd(fd, 65_536))
    assert ring.head == before + ROUNDS * chunk_bytes


def test_os_read(reader: Callable[[Callable[[int], object]], None]) -> None:
    def drain(fd: int) -> None:
        try:
            while os.read(fd, 65_536):
                pass
        except BlockingIOError:
            return

    reader(drain)
