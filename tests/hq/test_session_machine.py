"""A session, its link and its viewers, in any order of breaks: the stream itself says what is right.

Everything is the real thing but the sockets, the disk and the threads. The program's output is a known
function of the offset, so every byte that reaches a viewer can be judged, and every gap it is told has to be
one. A viewer that lost nothing, whatever was cut, sent again or rendered for it, ends with the screen of one
that saw it all.

The short form is a test like any other. `make soak` tries many more examples: AGENTRELAY_SOAK_EXAMPLES says
how many, and AGENTRELAY_SOAK_SEED repeats a run.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentrelay import fastpath
from agentrelay.hq import rendering, session, viewer
from agentrelay.hq.metrics import Metrics
from agentrelay.hq.runner_link import RunnerLink
from agentrelay.hq.screen.local import LocalScreen
from agentrelay.hq.screen.worker import feed_slice
from agentrelay.hq.session import Session, State
from agentrelay.protocol import pace
from agentrelay.protocol.ids import Epoch
from agentrelay.protocol.messages import (
    Ack,
    Exited,
    Held,
    LinkGap,
    Message,
    Register,
    encode,
)
from tests.hq.ends import COLS, ROWS, MemoryEndpoint, RunnerEnd, ViewerEnd, new_screen, output
from tests.hq.fakes import FakeRecorder, Rig
from tests.hq.test_screen_snapshot import describe

EXAMPLES = int(os.environ.get("AGENTRELAY_SOAK_EXAMPLES") or 300)

# Everything is small, so that little output reaches every limit.
RING_BYTES = 65_536
LIMITS: dict[Any, dict[str, Any]] = {
    session: {"RING_BYTES": RING_BYTES},
    pace: {
        "GRANT_BYTES": 4_000,
        "WINDOW_BYTES": 20_000,
        "limit": partial(pace.limit, window_bytes=20_000),
    },
    viewer: {
        "FRAME_BYTES": 5_000,
        "IN_FLIGHT_BYTES": 12_000,
        "REPLAY_ALL_BYTES": 30_000,
        "REPLAY_MISSED_BYTES": 100_000,
        "FELL_BEHIND_BYTES": 90_000,
    },
}


class Rendered(LocalScreen):
    """What HQ renders with, in this process."""

    lost = False
    to_blame = False

    def feed_slice(self, data: memoryview, *, answer: bool = False) -> tuple[int, bytes]:
        taken_bytes, replies = feed_slice(self, bytearray(data), answer=answer)
        return taken_bytes, b"".join(replies)


def _new_rendered(rows: int, cols: int) -> Rendered:
    return Rendered(rows=rows, cols=cols)


def _shown(screen: LocalScreen) -> dict[str, Any]:
    shown = describe(screen)
    if shown["alternate"] is not None:
        # A snapshot leaves out the screen that is not shown, and what a program forgot to put back there.
        del shown["alternate"]["saved"], shown["alternate"]["keyboard"]
    return shown


class Sessions(RuleBasedStateMachine):
    """One session of one runner, at one HQ after another."""

    recording = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.patches: list[Any] = [mock.patch.multiple(module, **values) for module, values in LIMITS.items()]
        self.patches.append(mock.patch.object(rendering, "_new_screen", _new_rendered))
        self.patches.append(mock.patch.object(rendering, "_rendered", self._in_thread))
        for patch in self.patches:
            patch.start()
        self.metrics: Any = mock.Mock(
            spec=Metrics, **dict.fromkeys(("output_bytes", "input_bytes", "viewer_bytes"), 0)
        )
        for name in ("links", "links_replaced", "attaches", "resyncs", "gaps", "gap_bytes"):
            setattr(self.metrics, name, 0)
        self.runner = RunnerEnd()
        self.clients: list[ViewerEnd] = []
        self.lost: list[tuple[int, int]] = []
        self.budget = 1 << 30
        self.reads = asyncio.Event()
        self.reads.set()
        self.link: RunnerLink | None = None
        self.link_endpoint: MemoryEndpoint
        self.stale: list[tuple[RunnerLink, list[bytes]]] = []
        self.rig: Rig
        self.log: list[int | None] = []
        self.disk_failed_at: int | None = None
        self.wrong: AssertionError | None = None

    def run(self, step: Awaitable[Any] | None = None) -> None:
        """Do something, then everything that follows from it."""

        async def settle() -> None:
            if step is not None:
                await step
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(settle())
        if self.wrong is not None:
            raise self.wrong

    async def _in_thread(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do it at once and answer when the disk does; whoever is cancelled meanwhile does not undo it."""
        done = work(*args, **kwargs)
        await self.reads.wait()
        return done

    # HQ

    @property
    def session(self) -> Session:
        return self.rig.session

    @property
    def has_log(self) -> bool:
        return self.session.recorder is not None

    @property
    def whole(self) -> bool:
        return not self.lost and self.disk_failed_at is None and self.session.base == 0

    def _open_hq(self, *, recording: bool) -> None:
        self.rig = Rig(recording=recording, started=False)
        session = self.rig.session
        if recording:
            session.ring = None
            session.head = len(self.log)
            session.recorder = recorder = FakeRecorder(session)
            recorder.bytes = self.log
            recorder.gate = self.reads
        on_gap = session.on_gap

        def note(start: int, stop: int) -> None:
            assert start == session.head
            assert stop <= self.runner.base, "the runner still has it"
            self.lost.append((start, stop))
            if not session.recording and self.disk_failed_at is not None:
                self.lost.append((self.disk_failed_at, stop))
            on_gap(start, stop)

        session.on_gap = note  # type: ignore[method-assign]

    def link_up(self, link: RunnerLink, register: Register) -> None:
        if self.link is not None:
            self.link.fence()
        self.link = link
        going_on = register.sessions if self.session.state is not State.ENDED else []
        link.go_on([(self.session, held.base, held.head, held.input) for held in going_on])

    def link_down(self, link: RunnerLink) -> None:
        if self.link is link:
            self.link = None

    def program_started(self, link: RunnerLink, message: Message) -> None:
        raise AssertionError("not in this play")

    program_not_started = program_started

    def program_exited(self, session: Session, message: Exited) -> None:
        assert message.offset == session.head
        session.on_exited(exit_code=message.exit_code, signal=message.signal)

    def check_gap(self, start: int, stop: int) -> None:
        """See that every byte of a gap is really lost."""
        if not self.has_log:
            assert stop <= max(self.session.ring_base, *(end for _, end in [*self.lost, (0, 0)]))
            return
        lost = list(self.lost)
        if self.disk_failed_at is not None:
            # What the log did not take is in memory only, and no longer than that lasts.
            lost.append((self.disk_failed_at, self.session.ring_base))
        at = start
        while at < stop:
            ends = [end for begin, end in lost if begin <= at < end]
            assert ends, (
                f"byte {at} of the gap from {start} to {stop} was not lost: {lost}, "
                f"log to {len(self.log)}, ring {self.session.ring_base} to {self.session.head}"
            )
            at = max(ends)

    # The link

    def _feed(self, link: RunnerLink, endpoint: MemoryEndpoint, sent: bytes) -> None:
        """Let HQ receive a frame or a text, as `Endpoint` hands them on."""
        if not endpoint.open:
            return
        if sent[:1] == b"{":
            link.on_text(sent)
            return
        buffer = bytearray(sent)
        pos, status = endpoint.receive_fast(buffer, 0, len(buffer))
        if status == fastpath.MORE:
            assert pos == len(buffer)
            return
        assert status == fastpath.SLOW
        _, start, stop, mask = fastpath.scan_frame(buffer, 0, len(buffer), True, 1 << 20)
        fastpath.unmask(buffer, start, stop, mask)
        link.on_binary(memoryview(buffer)[start:stop])

    async def _connect(self) -> None:
        runner = self.runner
        if self.link is not None:
            self.stale.append((self.link, runner.wire))
        runner.wire = []
        runner.stream = None
        runner.hold_everything()
        self.link_endpoint = endpoint = MemoryEndpoint(
            lambda text: runner.on_text(text) if self.link_endpoint is endpoint else None,
            lambda data: runner.on_binary(data) if self.link_endpoint is endpoint else None,
        )
        link = RunnerLink(endpoint, self, self.metrics)  # type: ignore[arg-type]
        held = Held(
            session_id=self.session.session_id,
            epoch="e1",
            pid=42,
            base=runner.base,
            head=runner.head,
            input=0,
            rows=ROWS,
            cols=COLS,
            command=["sh"],
            cwd="/",
        )
        known = self.session.state is not State.STARTING
        register = Register(
            protocol=1,
            runner_id="box",
            version="0",
            hostname="h",
            os="linux",
            arch="x",
            sessions=[held] if known else [],
        )
        self._feed(link, endpoint, encode(register))
        assert self.link is link

    @initialize(budget=st.sampled_from([1 << 30, 20_000]))
    def start(self, budget: int) -> None:
        self.budget = budget
        self._open_hq(recording=self.recording)
        self.run(self._start())

    async def _start(self) -> None:
        await self._connect()
        assert self.link is not None
        stream = self.link.open_stream(self.session, limit=pace.WINDOW_BYTES)
        self.session.start(epoch=Epoch("e1"), pid=42, link=self.link, stream=stream, limit=pace.WINDOW_BYTES)
        self.runner.stream, self.runner.limit = stream, pace.WINDOW_BYTES

    # The program and its runner

    @precondition(lambda self: not self.runner.exited)
    @rule(n_bytes=st.integers(1, 40_000))
    def print(self, n_bytes: int) -> None:
        self.runner.head += n_bytes
        self.runner.pump()

    @precondition(lambda self: self.runner.wire)
    @rule(share=st.sampled_from([0.0, 0.3, 1.0, 1.0]))
    def deliver(self, share: float) -> None:
        async def deliver() -> None:
            count = max(1, round(share * len(self.runner.wire)))
            for _ in range(count):
                if self.link is None or not self.runner.wire:
                    break
                self._feed(self.link, self.link_endpoint, self.runner.wire.pop(0))

        self.run(deliver())

    @precondition(lambda self: self.link is not None and not self.runner.exited)
    @rule(n_bytes=st.integers(30_000, 90_000))
    def all_is_well_for_a_while(self, n_bytes: int) -> None:
        """Print, and let it come to everybody who reads: it takes much output to reach some limits."""
        self.runner.head += n_bytes
        self.runner.pump()
        while self.runner.wire and self.link is not None:
            self.deliver(share=1.0)
            if self.has_log:
                self.write_log(n_bytes=1 << 30)
            for client in self.clients:
                if client.endpoint.budget > 1 << 20:
                    self.run(self._read_and_ack(client))

    @precondition(lambda self: self.link is not None)
    @rule()
    def break_link(self) -> None:
        async def drop() -> None:
            assert self.link is not None
            link = self.link
            self.stale.append((link, self.runner.wire))
            self.runner.wire, self.runner.stream = [], None
            self.link_endpoint.open = False
            link.on_closed(1006, "cut")

        self.run(drop())

    @rule()
    def connect(self) -> None:
        """A link comes back, or replaces one whose break nobody has noticed."""
        self.run(self._connect())

    @precondition(lambda self: self.stale)
    @rule()
    def late_bytes_arrive(self) -> None:
        async def deliver() -> None:
            link, wire = self.stale.pop(0)
            for sent in wire:
                if sent[:1] == b"{":
                    link.on_text(sent)
                else:
                    self._feed(link, link._endpoint, sent)  # type: ignore[arg-type]

        self.run(deliver())

    @rule()
    def runner_forgets_what_it_may(self) -> None:
        assert self.runner.acked <= self.runner.head
        self.runner.base = max(self.runner.base, self.runner.acked)

    @precondition(lambda self: self.link is None)
    @rule(share=st.floats(0, 1))
    def runner_loses_its_memory(self, share: float) -> None:
        runner = self.runner
        runner.base += round(share * (runner.head - runner.base))

    @precondition(
        lambda self: self.link is not None and self.runner.stream is not None and not self.runner.exited
    )
    @rule(n_bytes=st.integers(1, 3_000))
    def runner_loses_what_it_was_to_send(self, n_bytes: int) -> None:
        runner = self.runner
        if runner.sent == runner.head and runner.stream is not None:
            runner.head += n_bytes
            runner.say(LinkGap(stream=runner.stream, from_=runner.sent, to=runner.head))
            runner.sent = runner.base = runner.head

    @precondition(lambda self: not self.runner.exited)
    @rule()
    def exit(self) -> None:
        self.runner.exited = True
        self.runner.pump()

    # The disk

    @precondition(lambda self: self.has_log)
    @rule(n_bytes=st.sampled_from([100, 10_000, 1 << 30]))
    def write_log(self, n_bytes: int) -> None:
        async def write() -> None:
            self.rig.recorder.write(n_bytes)

        self.run(write())

    @precondition(lambda self: self.has_log and self.session.recording)
    @rule(really=st.sampled_from([False] * 9 + [True]))
    def disk_fails(self, really: bool) -> None:
        async def fail() -> None:
            self.disk_failed_at = self.rig.recorder.logged
            # What lies before a gap that is not written yet is in no ring any more.
            if self.rig.recorder.waiting_gap is not None:
                self.lost.append((self.disk_failed_at, self.rig.recorder.waiting_gap))
            self.rig.recorder.fail()

        if really:
            self.run(fail())

    @rule(answers=st.booleans())
    def disk_answers(self, answers: bool) -> None:
        async def set_reads() -> None:
            if answers:
                self.reads.set()
            else:
                self.reads.clear()

        self.run(set_reads())

    @rule(seconds=st.sampled_from([0.5, 1.1, 3.0]))
    def time_passes(self, seconds: float) -> None:
        async def settle() -> None:
            self.session.settle()

        self.rig.clock.advance(seconds)
        self.run(settle())

    # Viewers

    @precondition(lambda self: len(self.clients) < 4)
    @rule(acks=st.booleans(), share=st.none() | st.floats(0, 1))
    def attach(self, acks: bool, share: float | None) -> None:
        client = ViewerEnd(self, acks=acks)
        self.clients.append(client)
        start = None if share is None else round(share * self.runner.head)
        self._attach(client, start)

    def _attach(self, client: ViewerEnd, start: int | None) -> None:
        async def attach() -> None:
            task = self.loop.create_task(client.attach(self.session, start, "e1"))
            for _ in range(5):
                await asyncio.sleep(0)
            if not task.done():  # a snapshot waits for the disk
                self.reads.set()
                await task

        self.run(attach())

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 9), back=st.booleans())
    def viewer_is_cut(self, which: int, back: bool) -> None:
        client = self.clients[which % len(self.clients)]

        async def cut() -> None:
            client.cut()

        self.run(cut())
        client.ended = None
        if back:
            self._attach(client, client.position)
        else:
            self.clients.remove(client)

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 9), budget=st.sampled_from([0, 1, 6_000, 1 << 30]))
    def viewer_reads(self, which: int, budget: int) -> None:
        client = self.clients[which % len(self.clients)]

        async def read() -> None:
            client.endpoint.budget = budget
            if client.endpoint.writable and client.viewer is not None:
                client.viewer.on_writable()

        self.run(read())

    @precondition(lambda self: any(client.acks for client in self.clients))
    @rule(which=st.integers(0, 9), behind=st.sampled_from([0, 0, 3_000]))
    def viewer_acks(self, which: int, behind: int) -> None:
        acking = [client for client in self.clients if client.acks]
        client = acking[which % len(acking)]

        async def ack() -> None:
            if client.viewer is not None and client.position is not None:
                client.viewer.on_message(Ack(offset=max(0, client.position - behind)))

        self.run(ack())

    # HQ dies

    @rule()
    def hq_restarts(self) -> None:
        async def restart() -> None:
            for client in self.clients:
                client.cut()
                client.ended = None
            self.stale.clear()
            ended = self.session.state is State.ENDED
            self.link_endpoint.open = False
            self.link = None
            self.runner.wire, self.runner.stream = [], None
            self._open_hq(recording=self.has_log and self.session.recording)
            session = self.session
            session.epoch = Epoch("e1")
            session.state = State.AWAY
            if ended:
                # It is only over if the log has all of it; else the runner brings it back.
                session.state = State.ENDED if session.head == self.runner.head else State.AWAY
                session.exit_code = 3

        self.run(restart())
        for client in self.clients:
            self._attach(client, client.position)

    # What is always so

    @invariant()
    def nobody_is_ahead_of_the_program(self) -> None:
        assert self.session.head <= self.runner.head
        if self.has_log and self.session.recording:
            assert self.runner.acked <= self.rig.recorder.logged
        assert len(self.session.followers) <= len(self.clients)

    def teardown(self) -> None:
        try:
            if hasattr(self, "rig"):
                self.finish()
        finally:
            for patch in self.patches:
                patch.stop()
            self.loop.close()

    def finish(self) -> None:
        """Let everything be well again: everyone comes to the last byte, and hears of the end."""
        self.disk_answers(answers=True)
        self.exit()
        if self.link is None:
            self.connect()
        for _ in range(200):
            if self.session.over:
                break
            if self.runner.wire:
                self.deliver(share=1.0)
            if self.has_log:
                self.write_log(n_bytes=1 << 30)
            for which, client in enumerate(self.clients):
                self.viewer_reads(which=which, budget=1 << 30)
                if client.acks:
                    self.viewer_acks(which=0, behind=0)
            self.time_passes(seconds=1.1)
        assert self.session.state is State.ENDED, "it never came to its end"
        assert self.session.head == self.runner.head
        for _ in range(40 + self.runner.head // 4_000):
            if all(client.ended is not None for client in self.clients):
                break
            if self.has_log:
                self.write_log(n_bytes=1 << 30)
            for client in self.clients:
                client.endpoint.budget = 1 << 30
                self.run(self._read_and_ack(client))
        for client in self.clients:
            assert client.ended == {
                "session_id": self.session.session_id,
                "exit_code": 3,
                "signal": None,
            }
            assert client.position == self.runner.head
            assert client.endpoint.closed == 1000
        screens = [client.screen for client in self.clients if client.screen is not None]
        if screens:
            whole = new_screen()
            whole.feed(output(0, self.runner.head))
            for screen in screens:
                assert _shown(screen) == _shown(whole), "another screen than the program made"

    async def _read_and_ack(self, client: ViewerEnd) -> None:
        if client.viewer is not None:
            client.viewer.on_writable()
            if client.acks and client.position is not None:
                client.viewer.on_message(Ack(offset=client.position))


class SessionsInMemory(Sessions):
    """The same without a log: what a viewer is too slow for is gone, and it is told."""

    recording = False

    @precondition(lambda self: False)
    @rule()
    def hq_restarts(self) -> None:
        """Without a log HQ knows nothing of it afterwards."""


TestSessions = Sessions.TestCase
TestSessions.settings = settings(deadline=None, max_examples=EXAMPLES, stateful_step_count=40)
TestSessionsInMemory = SessionsInMemory.TestCase
TestSessionsInMemory.settings = settings(deadline=None, max_examples=EXAMPLES // 2, stateful_step_count=40)
