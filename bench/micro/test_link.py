"""The link: the runner packs output, HQ receives it into rings."""

import socket
from contextlib import ExitStack, closing
from types import ModuleType
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from bench.micro.picows_server import feed, picows_server

BATCH_BYTES = 262_144
STREAMS = 8

pytestmark = pytest.mark.benchmark(max_time=0.3, min_rounds=3)


def describe(benchmark: BenchmarkFixture, what: str, chunk_bytes: int, n_frames: int) -> None:
    benchmark.group = f"{what}, {chunk_bytes} bytes"
    benchmark.extra_info.update(frames=n_frames, bytes=n_frames * chunk_bytes)


def test_pack_output(benchmark: BenchmarkFixture, fastpath: ModuleType, chunk_bytes: int) -> None:
    n_frames = BATCH_BYTES // (chunk_bytes + 16)
    describe(benchmark, "pack", chunk_bytes, n_frames)
    out = bytearray(BATCH_BYTES)
    masks = fastpath.MaskSource()
    with closing(fastpath.ByteRing(BATCH_BYTES)) as ring:
        ring.append(bytes(BATCH_BYTES))

        def pack() -> int:
            pos = 0
            for start in range(0, n_frames * chunk_bytes, chunk_bytes):
                pos, _ = fastpath.pack_output(out, pos, ring, start, start + chunk_bytes, 7, masks)
            return pos

        assert benchmark(pack) > n_frames * chunk_bytes


def test_pack_with_websockets(benchmark: BenchmarkFixture, chunk_bytes: int) -> None:
    n_frames = BATCH_BYTES // (chunk_bytes + 16)
    describe(benchmark, "pack", chunk_bytes, n_frames)
    data = memoryview(bytes(BATCH_BYTES))
    header = b"\x01\x00\x00\x00\x00\x00\x00\x07"

    def pack() -> int:
        protocol = ClientProtocol(parse_uri("ws://hq/"), state=OPEN)
        for start in range(0, n_frames * chunk_bytes, chunk_bytes):
            protocol.send_binary(header + data[start : start + chunk_bytes])
        return len(b"".join(protocol.data_to_send()))

    assert benchmark(pack) > n_frames * chunk_bytes


def received(chunk_bytes: int) -> tuple[bytes, int]:
    """Give a full receive buffer: frames of several streams in turn."""
    frames = [
        Frame(Opcode.BINARY, bytes([1, 0, 0, 0, 0, 0, 0, stream]) + bytes(chunk_bytes)).serialize(mask=True)
        for stream in range(STREAMS)
    ]
    n_frames = BATCH_BYTES // len(frames[0])
    return b"".join(frames[i % STREAMS] for i in range(n_frames)), n_frames


def test_receive(benchmark: BenchmarkFixture, fastpath: ModuleType, chunk_bytes: int) -> None:
    buffer, n_frames = received(chunk_bytes)
    describe(benchmark, "receive", chunk_bytes, n_frames)
    receiver = fastpath.MuxReceiver(masked=True, max_payload_bytes=65_520)
    with ExitStack() as stack:
        for stream in range(STREAMS):
            receiver.open(stream, stack.enter_context(closing(fastpath.ByteRing(1_048_576))), stream)
        assert benchmark(receiver.receive, buffer, 0, len(buffer)) == (len(buffer), fastpath.MORE)


def test_receive_with_websockets(benchmark: BenchmarkFixture, chunk_bytes: int) -> None:
    buffer, n_frames = received(chunk_bytes)
    describe(benchmark, "receive", chunk_bytes, n_frames)
    streams = {stream: bytearray() for stream in range(STREAMS)}

    def receive() -> int:
        protocol = ServerProtocol(state=OPEN, max_size=None)
        protocol.receive_data(buffer)
        events = protocol.events_received()
        for event in events:
            assert isinstance(event, Frame)
            stream = int.from_bytes(event.data[4:8], "big")
            streams[stream][:] = memoryview(event.data)[8:]
        return len(events)

    assert benchmark(receive) == n_frames


def test_receive_with_picows(benchmark: BenchmarkFixture, chunk_bytes: int) -> None:
    buffer, n_frames = received(chunk_bytes)
    describe(benchmark, "receive", chunk_bytes, n_frames)
    streams = {stream: bytearray() for stream in range(STREAMS)}
    found: list[int] = []

    def on_frame(frame: Any) -> None:
        with frame.get_payload_as_memoryview() as payload:
            stream = int.from_bytes(payload[4:8], "big")
            streams[stream][:] = payload[8:]
        found.append(stream)

    ours, theirs = socket.socketpair()
    with ours, theirs, picows_server(ours, on_frame) as protocol:

        def receive() -> int:
            found.clear()
            feed(protocol, buffer)
            return len(found)

        assert benchmark(receive) == n_frames
