"""What surrounds a session, without sockets, threads or a clock of its own."""

import asyncio
import time
from collections.abc import Iterable

from agentrelay.fastpath import ByteRing
from agentrelay.hq import rendering
from agentrelay.hq.input_queue import InputQueue
from agentrelay.hq.log.keyframe import Keyframe
from agentrelay.hq.session import Session
from agentrelay.protocol.ids import Epoch, RunnerId, SessionId, StreamId

STREAM = StreamId(1)


class Clock:
    """Seconds that pass when a test says so; they begin where the loop's clock is."""

    def __init__(self) -> None:
        self.now_s = time.monotonic()

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class FakeFollower:
    """A viewer that takes what it is let to."""

    def __init__(self, session: Session, *, reading: bool = True) -> None:
        self.viewer_id = f"f{id(self)}"
        self.moved_s = session._clock()
        self.position = session.head
        self.reading = reading
        self.told: list[tuple[object, ...]] = []
        self._session = session

    def move(self, position: int) -> None:
        """Take what is before `position`."""
        self.position = position
        self.moved_s = self._session._clock()
        self._session.regulate()

    def on_output(self) -> None:
        if self.reading:
            self.position = self._session.head
            self.moved_s = self._session._clock()

    def on_gap(self, start: int, stop: int) -> None:
        self.told.append(("gap", start, stop))
        if self.position >= start:
            self.position = max(stop, self.position)

    def on_resized(self) -> None:
        self.told.append(("resized", self._session.rows, self._session.cols))

    def on_control(self) -> None:
        self.told.append(("control", self._session.controller is self))

    def on_ended(self) -> None:
        self.told.append(("ended", self._session.exit_code, self._session.signal))

    def on_input_applied(self) -> None:
        self.told.append(("input applied", self._session.input.full))

    def on_trouble(self, code: str, message: str) -> None:
        self.told.append(("trouble", code, message))

    def heard(self, kind: str) -> list[tuple[object, ...]]:
        """Give what was told of one kind."""
        return [what[1:] for what in self.told if what[0] == kind]


class FakeLink:
    """Keeps what it is to send."""

    def __init__(self) -> None:
        self.input: list[bytes] = []
        self.acks: list[tuple[int, int]] = []
        self.sent: list[tuple[object, ...]] = []

    def send_input(self, stream: StreamId, queue: InputQueue) -> None:
        assert stream == STREAM
        while data := queue.next_to_send():
            self.input.append(data)

    def send_ack(self, stream: StreamId, acked: int, limit: int) -> None:
        assert stream == STREAM
        self.acks.append((acked, limit))

    def send_resize(self, stream: StreamId, *, rows: int, cols: int) -> None:
        self.sent.append(("resize", rows, cols))

    def send_signal(self, stream: StreamId, name: str) -> None:
        self.sent.append(("signal", name))

    def send_stop(self, stream: StreamId) -> None:
        self.sent.append(("stop",))


class FakeRecorder:
    """An output log in memory that writes when it is told to, as the log writer's thread does.

    Attributes:
        bytes: the log by offset; None where it recorded a gap.
        gate: reading waits for it.
        failed: whether it takes no more.
        kept: the newest keyframe.
        earlier_sizes: that an earlier HQ recorded.
    """

    def __init__(self, session: Session) -> None:
        self.base = 0
        self.bytes: list[int | None] = []
        self.records: list[tuple[object, ...]] = []
        self.failed = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.kept: Keyframe | None = None
        self.earlier_sizes: list[tuple[int, int, int]] = []
        self._session = session
        self._reading: ByteRing = session.writable_ring()
        self._reading.keep = session.head
        self._gaps: list[tuple[int, int, ByteRing]] = []

    @property
    def logged(self) -> int:
        return len(self.bytes)

    def wake(self) -> None:
        pass

    def resized(self, *, rows: int, cols: int) -> None:
        self.records.append(("resized", rows, cols))

    def took_input(self, viewer: str, data: bytes | memoryview) -> None:
        self.records.append(("input", viewer, len(data)))

    def gap(self, stop: int, ring: ByteRing) -> None:
        start = self._gaps[-1][2].head if self._gaps else self._reading.head
        if ring is self._reading:
            start = self.logged
        self._gaps.append((start, stop, ring))

    def ended(self, *, exit_code: int | None, signal: int | None) -> None:
        self.records.append(("ended", exit_code, signal))

    async def read(self, start: int, max_bytes: int) -> tuple[int, bytes]:
        await self.gate.wait()
        at = max(start, self.base)
        while at < self.logged and self.bytes[at] is None:
            at += 1
        data = bytearray()
        for byte in self.bytes[at : at + max_bytes]:
            if byte is None:
                break
            data.append(byte)
        return (at, bytes(data)) if data else (max(start, self.logged), b"")

    async def sizes(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        return [size for size in self.earlier_sizes if start <= size[0] < stop]

    async def keyframe(self) -> Keyframe | None:
        return self.kept

    async def keep(self, keyframe: Keyframe) -> None:
        self.kept = keyframe

    @property
    def waiting_gap(self) -> int | None:
        """Where the last gap that is not written yet ends."""
        return self._gaps[-1][1] if self._gaps else None

    def write(self, n_bytes: int = 1 << 60) -> None:
        """Write up to `n_bytes` of output and the gaps between, and report it."""
        if self.failed:
            return
        while self.logged < self._session.head:
            gap = self._gaps[0] if self._gaps else None
            stop = min(gap[0] if gap else self._reading.head, self.logged + n_bytes)
            if stop > self.logged:
                n_bytes -= stop - self.logged
                with self._reading.view(self.logged, stop) as view:
                    self.bytes += bytes(view)
            if gap is None or self.logged < gap[0]:
                break
            self.bytes += [None] * (gap[1] - self.logged)
            self._reading = gap[2]
            del self._gaps[0]
        self._session.on_logged(self.logged)

    def fail(self) -> None:
        """Refuse to write any more."""
        self.failed = True
        self._session.on_recording_failed("the disk is full")


class Rig:
    """A session with a link and a log, and what it told its owner."""

    def __init__(self, *, recording: bool = True, started: bool = True) -> None:
        self.clock = Clock()
        self.changes = 0
        self.active = 0
        self.unattended: list[int] = []
        self.session = Session(
            session_id=SessionId("s" * 32),
            runner_id=RunnerId("box"),
            name="test",
            command=["sh"],
            preset=None,
            cwd="/",
            rows=24,
            cols=80,
            recording=recording,
            created_at=0.0,
            changed=self._changed,
            active=self._active,
            unattended=self._unattended,
            clock=self.clock,
        )
        self.link = FakeLink()
        self.session.writable_ring()
        if recording:
            self.session.recorder = FakeRecorder(self.session)
        if started:
            self.start()

    @property
    def recorder(self) -> FakeRecorder:
        assert isinstance(self.session.recorder, FakeRecorder)
        return self.session.recorder

    def _changed(self, session: Session) -> None:
        self.changes += 1

    def _active(self, session: Session) -> None:
        self.active += 1

    def _unattended(self, session: Session, offset: int) -> None:
        self.unattended.append(offset)

    def start(self, limit: int = 1 << 20) -> None:
        self.session.start(epoch=Epoch("e1"), pid=42, link=self.link, stream=STREAM, limit=limit)

    def output(self, data: bytes) -> None:
        """Let output arrive on the link."""
        self.session.writable_ring().append(data)
        self.session.on_output()

    def follow(self, *, reading: bool = True) -> FakeFollower:
        """Attach a viewer."""
        follower = FakeFollower(self.session, reading=reading)
        self.session.attach(follower)
        return follower

    def lose_link(self) -> None:
        self.session.on_link_lost(self.link)

    def come_back(self, *, applied: int = 0) -> FakeLink:
        """Let a new link take the session over, as `RunnerLink` does."""
        self.link = FakeLink()
        self.session.resume_input(applied)
        self.session.resume(
            link=self.link, stream=STREAM, acked=self.session.acked, limit=self.session.limit()
        )
        return self.link


async def answered() -> None:
    """Wait until HQ has answered what programs have asked."""
    for each in list(rendering._renderings.values()):
        if each.answering is not None:
            await each.answering


def joined(pieces: Iterable[bytes]) -> bytes:
    """Give the bytes of several frames."""
    return b"".join(pieces)
