"""A hostile runner: whoever has the runner token can say anything, and harms nobody but itself.

The short form is a test like any other. `make soak` dials more often: AGENTRELAY_SOAK_LINKS says how often,
and AGENTRELAY_SOAK_SEED repeats a run.
"""

import asyncio
import json
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from agentrelay.errors import RequestError
from agentrelay.hq.runner_link import RunnerLink
from agentrelay.hq.session import RING_BYTES, Session, State
from agentrelay.protocol import mux
from agentrelay.protocol.ids import StreamId, new_session_id
from agentrelay.protocol.messages import Start, StartSession, decode_from_hq
from tests.hq.plane import FakeRunner, Plane, attached, run_plane
from tests.transport.fakes import Wire

SEED = int(os.environ.get("AGENTRELAY_SOAK_SEED") or random.randrange(10**6))
LINKS = int(os.environ.get("AGENTRELAY_SOAK_LINKS") or 200)
SAYINGS = 40
TEXT, BINARY = 1, 2
NAMES = ("evil", "evil-2")


class Hostile:
    """Makes up what such a runner says: mostly what a runner could say in this place, and at times anything.

    It knows what a session's id looks like, even that of another runner's session, and what HQ believes.
    """

    def __init__(self, rng: random.Random, foreign: str) -> None:
        self.sessions = [new_session_id() for _ in range(6)]
        self._rng = rng
        self._foreign = foreign
        self._link: RunnerLink
        self._asked: list[Start] = []

    def dial(self, link: RunnerLink) -> None:
        """Go on with another link."""
        self._link = link
        self._asked = []

    def hear(self, answers: list[Frame]) -> None:
        """Remember what HQ asks for."""
        for answer in answers:
            message = decode_from_hq(bytes(answer.data)) if answer.opcode is Opcode.TEXT else None
            if isinstance(message, Start):
                self._asked.append(message)

    def say(self) -> tuple[int, bytes]:
        """Give the opcode and payload of the next frame."""
        rng = self._rng
        if rng.random() < 0.04:
            return rng.choice(((TEXT, self._wild_text()), (BINARY, self._wild_frame())))
        return rng.choice((self._output, self._output, self._applied, self._text))()

    def register(self) -> bytes:
        rng = self._rng
        held = [self._held() for _ in range(rng.randrange(4))]
        return text_of(
            "register",
            protocol=1,
            runner_id=rng.choice(NAMES),
            version="9",
            hostname="h",
            os="linux",
            arch="x",
            sessions=held,
        )

    def _offset(self) -> int:
        rng = self._rng
        return rng.choice((0, 0, 1, rng.randrange(5000), 1 << 20, RING_BYTES, 1 << 32, 2**61))

    def _open(self) -> tuple[int, int]:
        """Give a stream, mostly one that is open, and where HQ is in it."""
        stream, session = self._rng.choice([*self._link._streams.items(), (StreamId(77), None)])
        return stream, session.head if session is not None else self._offset()

    def _held(self) -> dict[str, Any]:
        rng = self._rng
        base, head = sorted((self._offset(), self._offset()))
        return {
            "session_id": rng.choice((*self.sessions, self._foreign)),
            "epoch": rng.choice(("e1", "e1", "e1", "e2")),
            "pid": 42,
            "base": base if rng.random() < 0.8 else head + 1,
            "head": head,
            "input": self._offset(),
            "rows": 24,
            "cols": 80,
            "command": ["sh"],
            "cwd": "/",
        }

    def _output(self) -> tuple[int, bytes]:
        return BINARY, mux_frame(
            mux.Kind.OUTPUT, self._open()[0], self._rng.randbytes(self._rng.randrange(9000))
        )

    def _applied(self) -> tuple[int, bytes]:
        return BINARY, mux_frame(mux.Kind.INPUT_ACK, self._open()[0], mux.pack_offset(self._offset()))

    def _text(self) -> tuple[int, bytes]:
        rng = self._rng
        stream, head = self._open()
        asked: Any = (
            rng.choice(self._asked) if self._asked else Start(session_id=self._foreign, stream=1, limit=0)
        )
        program = {"session_id": asked.session_id, "stream": rng.choice((asked.stream, asked.stream, stream))}
        return TEXT, rng.choice(
            (
                text_of("started", **program, epoch="e1", pid=7, rows=24, cols=80, command=["sh"], cwd="/"),
                text_of("start_failed", **program, code="start_failed", message="no"),
                text_of(
                    "gap", stream=stream, **{"from": head, "to": head + rng.choice((0, 1, 9000, 1 << 40))}
                ),
                text_of(
                    "exited",
                    stream=stream,
                    offset=rng.choice((head, self._offset())),
                    exit_code=0,
                    signal=None,
                ),
                text_of("error", code="internal", message="\x1b[31mlies\n"),
            )
        )

    def _wild_text(self) -> bytes:
        rng = self._rng
        text = rng.choice((self.register(), self._text()[1], text_of("no-such-thing")))
        at = rng.randrange(len(text))
        return text[:at] + rng.choice((b"", b"-1", b"null", b'"', b"\xff")) + text[at + rng.randrange(3) :]

    def _wild_frame(self) -> bytes:
        rng = self._rng
        frame = mux_frame(
            rng.randrange(12), rng.choice((0, 1, 77, 2**32 - 1)), rng.randbytes(rng.randrange(300))
        )
        return frame if rng.random() < 0.7 else frame[: rng.randrange(8)]


def text_of(kind: str, **payload: Any) -> bytes:
    return json.dumps({"type": kind, "payload": payload}).encode()


def mux_frame(kind: int, stream: int, data: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + stream.to_bytes(4, "big") + data


@pytest.fixture
def rng() -> random.Random:
    print(f"AGENTRELAY_SOAK_SEED={SEED}")
    return random.Random(SEED)


async def starting(plane: Plane, name: str) -> None:
    with suppress(RequestError):
        await plane.registry.start_session(name, StartSession(rows=24, cols=80))


async def test_a_hostile_runner_harms_nobody_but_itself(
    tmp_path: Path, rng: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_plane(tmp_path) as plane:
        honest = FakeRunner(plane, "box")
        await honest.connect()
        program = await honest.start_program()
        link = plane.registry.runner("box").link
        hostile = Hostile(rng, foreign=program.session_id)
        heads: dict[Session, int] = {}
        starts: list[asyncio.Task[None]] = []
        ended: list[int | None] = []
        async with attached(plane, program.session_id) as viewer:
            for number in range(LINKS):
                wire = Wire()
                hostile.dial(RunnerLink(wire.endpoint, plane.registry, plane.metrics))
                if rng.random() < 0.95:
                    wire.feed(wire.frame(TEXT, hostile.register()))
                for _ in range(rng.randrange(SAYINGS)):
                    if rng.random() < 0.05:
                        starts.append(asyncio.create_task(starting(plane, rng.choice(NAMES))))
                    if rng.random() < 0.2:
                        await asyncio.sleep(0)
                    hostile.hear(wire.answers())
                    wire.feed(wire.frame(*hostile.say()))
                    if not wire.endpoint.open:
                        break
                ended.append(wire.close_code())
                wire.end()

                program.print(b"%d," % number)
                await viewer.read_to(len(program.output))
                assert viewer.output == program.output
                for session in plane.registry.sessions.values():
                    assert session.head >= heads.get(session, 0), "output went back"
                    assert session.acked <= session.head
                    heads[session] = session.head

            await asyncio.gather(*starts)
            session = plane.session(program.session_id)
            assert session.state is State.RUNNING
            assert session.runner_id == "box"
            assert plane.registry.runner("box").link is link
            assert not {"box", *NAMES} ^ set(plane.registry.runners)
            assert len(plane.registry.sessions) <= 1 + len(hostile.sessions) + len(starts)
            assert all(plane.registry.runner(name).link is None for name in NAMES)
    assert {1008, None} <= set(ended) <= {1008, 1007, 4000, None}, "some break the protocol, some do not"
    assert "Traceback" not in caplog.text
