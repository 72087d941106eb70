"""WebSocket frames of a receive buffer: judging them, unmasking them."""

import socket
from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask

from bench.micro.picows_server import feed, picows_server

BUFFER_BYTES = 262_144  # what HQ receives at once at most

pytestmark = pytest.mark.benchmark(max_time=0.3, min_rounds=3)


def receive_buffer(chunk_bytes: int) -> tuple[bytes, int]:
    frame = Frame(Opcode.BINARY, bytes(chunk_bytes)).serialize(mask=True)
    n_frames = BUFFER_BYTES // len(frame)
    return frame * n_frames, n_frames


def describe(benchmark: BenchmarkFixture, what: str, chunk_bytes: int, n_frames: int) -> None:
    benchmark.group = f"{what}, {chunk_bytes} bytes"
    benchmark.extra_info.update(frames=n_frames, bytes=n_frames * chunk_bytes)


def test_scan(benchmark: BenchmarkFixture, fastpath: ModuleType, chunk_bytes: int) -> None:
    buffer, n_frames = receive_buffer(chunk_bytes)
    describe(benchmark, "scan frames", chunk_bytes, n_frames)
    benchmark.extra_info["bytes"] = 0  # no payload is looked at

    def scan() -> int:
        pos = found = 0
        while pos < len(buffer):
            _, _, pos, _ = fastpath.scan_frame(buffer, pos, len(buffer), True, 1 << 20)
            found += 1
        return found

    assert benchmark(scan) == n_frames


def test_scan_and_unmask(benchmark: BenchmarkFixture, fastpath: ModuleType, chunk_bytes: int) -> None:
    buffer, n_frames = receive_buffer(chunk_bytes)
    writable = bytearray(buffer)
    describe(benchmark, "scan and unmask frames", chunk_bytes, n_frames)

    def scan() -> int:
        pos = found = 0
        while pos < len(buffer):
            _, start, pos, mask = fastpath.scan_frame(writable, pos, len(buffer), True, 1 << 20)
            fastpath.unmask(writable, start, pos, mask)
            found += 1
        return found

    assert benchmark(scan) == n_frames


def test_scan_and_unmask_with_websockets(benchmark: BenchmarkFixture, chunk_bytes: int) -> None:
    buffer, n_frames = receive_buffer(chunk_bytes)
    describe(benchmark, "scan and unmask frames", chunk_bytes, n_frames)

    def scan() -> int:
        protocol = ServerProtocol(state=OPEN, max_size=None)
        protocol.receive_data(buffer)
        return len(protocol.events_received())

    assert benchmark(scan) == n_frames


def test_scan_and_unmask_with_picows(benchmark: BenchmarkFixture, chunk_bytes: int) -> None:
    buffer, n_frames = receive_buffer(chunk_bytes)
    describe(benchmark, "scan and unmask frames", chunk_bytes, n_frames)
    found: list[int] = []
    ours, theirs = socket.socketpair()
    with ours, theirs, picows_server(ours, lambda frame: found.append(frame.payload_size)) as protocol:

        def scan() -> int:
            found.clear()
            feed(protocol, buffer)
            return len(found)

        assert benchmark(scan) == n_frames


def test_unmask(benchmark: BenchmarkFixture, fastpath: ModuleType, chunk_bytes: int) -> None:
    buffer = bytearray(chunk_bytes)
    describe(benchmark, "unmask", chunk_bytes, 1)
    benchmark(fastpath.unmask, buffer, 0, chunk_bytes, 0x37FA213D)


def test_unmask_with_websockets(benchmark: BenchmarkFixture, chunk_bytes: int) -> None:
    buffer = bytearray(chunk_bytes)
    describe(benchmark, "unmask", chunk_bytes, 1)
    benchmark(apply_mask, buffer, b"\x37\xfa\x21\x3d")
