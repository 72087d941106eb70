"""A viewer's control messages: decoded and validated by HQ, and as `websockets` leaves it to its user."""

import json

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from agentrelay.protocol.messages import Ack, Resize, StartSession, decode_from_viewer

MESSAGES = {
    "ack": (b'{"type": "ack", "payload": {"offset": 123456789}}', Ack),
    "resize": (b'{"type": "resize", "payload": {"rows": 50, "cols": 132}}', Resize),
    "start": (
        b'{"type": "start_session", "payload": {"command": ["bash", "-l"], "cwd": "/srv", '
        b'"env": {"TERM": "xterm-256color", "LANG": "C.UTF-8"}, "rows": 50, "cols": 132, "name": "build"}}',
        StartSession,
    ),
}

pytestmark = pytest.mark.benchmark(max_time=0.3, min_rounds=3)


def describe(benchmark: BenchmarkFixture, name: str) -> bytes:
    text, _ = MESSAGES[name]
    benchmark.group = f"decode {name}"
    benchmark.extra_info.update(frames=1, bytes=len(text))
    return text


@pytest.mark.parametrize("name", MESSAGES)
def test_decode(benchmark: BenchmarkFixture, name: str) -> None:
    text = describe(benchmark, name)
    assert isinstance(benchmark(decode_from_viewer, text), MESSAGES[name][1])


@pytest.mark.parametrize("name", MESSAGES)
def test_decode_with_json(benchmark: BenchmarkFixture, name: str) -> None:
    text = describe(benchmark, name)
    assert benchmark(json.loads, text)["payload"]


@pytest.mark.parametrize("name", MESSAGES)
def test_decode_frame_with_websockets(benchmark: BenchmarkFixture, name: str) -> None:
    frame = Frame(Opcode.TEXT, describe(benchmark, name)).serialize(mask=True)
    protocol = ServerProtocol(state=OPEN, max_size=None)

    def decode() -> object:
        protocol.receive_data(frame)
        (event,) = protocol.events_received()
        assert isinstance(event, Frame)
        return json.loads(event.data)["payload"]

    assert benchmark(decode)
