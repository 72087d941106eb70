"""One batch of output to the viewers of its session, each a cursor with a socket that is drained at once."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from types import ModuleType
from typing import Any

import pytest
from picows import WSMsgType
from pytest_benchmark.fixture import BenchmarkFixture
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from bench.micro.picows_server import picows_server

CAPACITY = 1_048_576
ROUNDS = 300
FRAME_BYTES = 65_536
# Not 0: a range that lies up to 16 bytes lower in its page than its copy in the kernel's takes three times as
# long (64 KiB over TCP: 26 us, not 9). At 0 it would be so every time; of all offsets it is one in 250.
START = 12_345

Pairs = list[tuple[socket.socket, socket.socket]]


@pytest.fixture(params=[1, 20], ids=["1 viewer", "20 viewers"])
def viewers(request: pytest.FixtureRequest) -> Iterator[Pairs]:
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(request.param)]
        for sender, receiver in pairs:
            stack.enter_context(sender)
            stack.enter_context(receiver)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 262_144)
            sender.setblocking(False)
            receiver.setblocking(False)
        yield pairs


def drain(viewers: Pairs) -> int:
    total = 0
    for _, receiver in viewers:
        try:
            while data := receiver.recv(262_144):
                total += len(data)
        except BlockingIOError:
            continue
    return total


def describe(benchmark: BenchmarkFixture, viewers: Pairs, chunk_bytes: int) -> None:
    benchmark.group = f"fan out to {len(viewers)}, {chunk_bytes} bytes"
    benchmark.extra_info.update(frames=len(viewers), bytes=len(viewers) * chunk_bytes)


def test_fan_out(benchmark: BenchmarkFixture, fastpath: ModuleType, viewers: Pairs, chunk_bytes: int) -> None:
    describe(benchmark, viewers, chunk_bytes)
    fds = [sender.fileno() for sender, _ in viewers]
    write_frames = fastpath.write_frames
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(bytes(CAPACITY))

        def fan_out() -> int:
            end = START + chunk_bytes
            return sum(len(write_frames(fd, ring, START, end, FRAME_BYTES)[1]) for fd in fds)

        drained: list[int] = []
        pedantic: Callable[..., Any] = benchmark.pedantic
        not_taken = pedantic(
            fan_out, setup=lambda: drained.append(drain(viewers)), rounds=ROUNDS, warmup_rounds=1
        )
        assert not_taken == 0
        assert set(drained[1:]) == {len(viewers) * (chunk_bytes + len(fastpath.frame_header(chunk_bytes)))}


def test_fan_out_with_websockets(benchmark: BenchmarkFixture, viewers: Pairs, chunk_bytes: int) -> None:
    describe(benchmark, viewers, chunk_bytes)
    data = bytes(chunk_bytes)
    connections = [(ServerProtocol(state=OPEN), sender) for sender, _ in viewers]

    def fan_out() -> int:
        written = 0
        for protocol, sender in connections:
            protocol.send_binary(data)
            written += sender.send(b"".join(protocol.data_to_send()))
        return written

    drained: list[int] = []
    pedantic: Callable[..., Any] = benchmark.pedantic
    written = pedantic(fan_out, setup=lambda: drained.append(drain(viewers)), rounds=ROUNDS, warmup_rounds=1)
    assert written > len(viewers) * chunk_bytes
    assert set(drained[1:]) == {written}


def test_fan_out_with_picows(benchmark: BenchmarkFixture, viewers: Pairs, chunk_bytes: int) -> None:
    describe(benchmark, viewers, chunk_bytes)
    data = bytes(chunk_bytes)
    with ExitStack() as stack:
        sends = [stack.enter_context(picows_server(sender, print)).transport.send for sender, _ in viewers]

        def fan_out() -> None:
            for send in sends:
                send(WSMsgType.BINARY, data)

        drained: list[int] = []
        pedantic: Callable[..., Any] = benchmark.pedantic
        pedantic(fan_out, setup=lambda: drained.append(drain(viewers)), rounds=ROUNDS, warmup_rounds=1)
        assert set(drained[1:]) == {len(viewers) * len(Frame(Opcode.BINARY, data).serialize(mask=False))}
