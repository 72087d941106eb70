"""The two ends of a session without sockets: a runner and viewers, which know what has to be where.

A program's output is a known function of the offset, so every byte that reaches a viewer can be judged where
it arrives. It is what terminal programs really print, so that the screen it makes can be judged too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import orjson

from agentrelay import fastpath
from agentrelay.hq.screen.local import LocalScreen
from agentrelay.hq.session import Session
from agentrelay.hq.viewer import Viewer
from agentrelay.protocol import mux
from agentrelay.protocol.messages import (
    Attach,
    Exited,
    Forget,
    Message,
    Registered,
    StreamResize,
    decode_from_hq,
    encode,
)

ROWS, COLS = 24, 80
_CORPORA = sorted(
    (Path(__file__).parents[2] / "bench" / "corpora").glob("*.bin"), key=lambda path: path.stat().st_size
)
_STREAM = b"".join(path.read_bytes() for path in _CORPORA)


def output(start: int, stop: int) -> bytes:
    """Give what the program prints between two offsets."""
    data = b""
    while start < stop:
        at = start % len(_STREAM)
        piece = _STREAM[at : at + stop - start]
        data += piece
        start += len(piece)
    return data


def new_screen() -> LocalScreen:
    """Make a terminal as everybody here has it."""
    return LocalScreen(rows=ROWS, cols=COLS)


class Judge(Protocol):
    """What a viewer cannot know itself.

    Attributes:
        budget: what a new connection takes before it has to be drained.
        wrong: the first thing that was found wrong.
    """

    metrics: Any
    budget: int
    wrong: AssertionError | None

    @property
    def session(self) -> Session:
        """The session."""

    @property
    def whole(self) -> bool:
        """Whether HQ still has all output from the first byte, so that what it renders is exact."""

    def check_gap(self, start: int, stop: int) -> None:
        """See that every byte of a gap is really lost."""


class MemoryEndpoint:
    """An endpoint whose peer is a function. It takes `budget` bytes before it has to be drained."""

    fd = -1

    def __init__(self, on_text: Callable[[bytes], None], on_binary: Callable[[bytes], None]) -> None:
        self.open = True
        self.budget = 1 << 30
        self.closed: int | None = None
        self.handler: Any = None
        self.receive_fast: Any = None
        self._on_text = on_text
        self._on_binary = on_binary

    @property
    def writable(self) -> bool:
        return self.open and self.budget > 0

    def send_text(self, text: bytes) -> None:
        if self.open:
            self._on_text(text)

    def send_frame(self, frame: bytes) -> None:
        if self.open:
            self.budget -= len(frame)
            _, start, stop, _ = fastpath.scan_frame(frame, 0, len(frame), False, 1 << 30)
            self._on_binary(frame[start:stop])

    send_rest = send_frame

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self.open:
            self.open = False
            self.closed = code

    def abort(self) -> None:
        self.close(1006)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class ViewerEnd:
    """A viewer's end: knows where it is, and judges every byte.

    Attributes:
        position: offset of the next byte; None while it has nothing.
        screen: what its terminal shows; None if that cannot be known, because something was lost.
    """

    def __init__(self, judge: Judge, *, acks: bool) -> None:
        self.acks = acks
        self.position: int | None = None
        self.screen: LocalScreen | None = None
        self.ended: dict[str, Any] | None = None
        self.viewer: Viewer | None = None
        self.endpoint: MemoryEndpoint
        self._judge = judge
        self._snapshot_left = 0
        self._replay_from: int | None = None
        self._missing = False

    async def attach(self, session: Session, start: int | None, epoch: str | None) -> None:
        """Connect anew, with what it has."""
        self._replay_from = start
        self._snapshot_left = 0
        self.endpoint = MemoryEndpoint(self._judged(self._take_text), self._judged(self._take_binary))
        self.endpoint.budget = self._judge.budget
        self.viewer = Viewer(self.endpoint, session, self._judge.metrics)  # type: ignore[arg-type]
        await self.viewer.attach(Attach(from_=start, epoch=epoch))

    def cut(self) -> None:
        """Lose the connection."""
        self.endpoint.open = False
        if self.viewer is not None:
            self.viewer.detach()
            self.viewer = None

    def _judged(self, take: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Keep what is found wrong: HQ would log it as a fault of its own and go on."""

        def judged(data: bytes) -> None:
            try:
                take(data)
            except AssertionError as wrong:
                self._judge.wrong = self._judge.wrong or wrong

        return judged

    def _take_text(self, text: bytes) -> None:
        message = orjson.loads(text)
        kind, payload = message["type"], message["payload"]
        if kind in ("attached", "resync"):
            self._begin(payload["offset"], payload["replay"], may_be_log=kind == "attached")
        elif kind == "gap":
            self._pass_gap(payload["from"], payload["to"])
        elif kind == "session_ended":
            assert self.ended is None
            assert self.position == self._judge.session.head, "the end came before the last byte"
            self.ended = payload
        elif kind == "error":
            assert payload["code"] in ("recording_stopped", "session_over"), payload

    def _begin(self, offset: int, replay: dict[str, Any], *, may_be_log: bool) -> None:
        if replay["kind"] == "snapshot":
            self.position = offset
            self.screen = new_screen() if self._judge.whole else None
            self._snapshot_left = replay["bytes"]
            return
        first = offset - replay["bytes"]
        # What it has is not sent again, and what is missing there is told.
        assert may_be_log
        assert self._replay_from is None or self._replay_from <= first
        self._missing = self._replay_from not in (None, first)
        if first != self.position:
            self.screen = new_screen() if first == 0 else None
        self.position = first

    def _pass_gap(self, start: int, stop: int) -> None:
        if self._missing:
            assert (start, stop) == (self._replay_from, self.position)
            self._missing = False
        else:
            assert self.position == start < stop, "a gap that is somewhere else"
        self._judge.check_gap(start, stop)
        self.position = stop
        self.screen = None

    def _take_binary(self, data: bytes) -> None:
        assert data, "an empty frame is no output"
        if self.screen is not None:
            self.screen.feed(data)
        if self._snapshot_left:
            self._snapshot_left -= len(data)
            assert self._snapshot_left >= 0, "live output in a frame of the snapshot"
            return
        assert self.position is not None
        assert self.ended is None
        assert not self._missing
        assert data == output(self.position, self.position + len(data)), "not what the program printed there"
        self.position += len(data)


class RunnerEnd:
    """The runner's end of the link: keeps what it printed until HQ has it."""

    def __init__(self) -> None:
        self.base = 0
        self.head = 0
        self.exited = False
        self.sent = 0
        self.acked = 0
        self.limit = 0
        self.stream: int | None = None
        self.told_exit = False
        self.wire: list[bytes] = []  # what is on its way to HQ
        self.masks = fastpath.MaskSource()

    def pump(self) -> None:
        """Send what may be sent."""
        while self.stream is not None and self.sent < min(self.head, self.limit):
            stop = min(self.head, self.limit, self.sent + 7_000)
            assert self.sent >= self.base, "asked for what it was told it may forget"
            self.wire.append(
                fastpath.pack_frame(mux.Kind.OUTPUT, self.stream, output(self.sent, stop), self.masks)
            )
            self.sent = stop
        if self.stream is not None and self.exited and self.sent == self.head and not self.told_exit:
            self.told_exit = True
            self.say(Exited(stream=self.stream, offset=self.head, exit_code=3, signal=None))

    def say(self, message: Message) -> None:
        self.wire.append(encode(message))

    def on_text(self, text: bytes) -> None:
        message = decode_from_hq(text)
        match message:
            case Registered(sessions=[resumed]):
                self.stream, self.sent = resumed.stream, resumed.from_
                self.limit, self.told_exit = resumed.limit, False
                assert self.base <= resumed.from_ <= self.head
                self.take_acked(resumed.acked)
                self.pump()
            case Registered() | StreamResize() | Forget():
                pass
            case _:
                raise AssertionError(f"HQ said {message}")

    def on_binary(self, data: bytes) -> None:
        frame = mux.unpack(memoryview(data))
        assert frame.kind == mux.Kind.ACK
        if frame.stream == self.stream:
            acked, limit = mux.unpack_ack(frame.data)
            assert limit >= self.limit, "a promise was taken back"
            self.limit = limit
            self.take_acked(acked)
            self.pump()

    def hold_everything(self) -> None:
        """Forget nothing more for what an earlier HQ said: the next chooses from what is here."""
        self.acked = min(self.acked, self.base)

    def take_acked(self, acked: int) -> None:
        self.acked = max(self.acked, acked)
