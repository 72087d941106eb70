"""Registry: every runner and session HQ knows, and what happens to them as links come and go."""

import asyncio
import logging
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

import msgspec

from agentrelay.errors import (
    LimitReached,
    LogError,
    NotRecorded,
    ProtocolError,
    RunnerAway,
    StartFailed,
    UnknownRunner,
    UnknownSession,
)
from agentrelay.hq import rendering
from agentrelay.hq.archive import Archive, LogRecorder
from agentrelay.hq.changes import Changes, row_of
from agentrelay.hq.events import EventHub
from agentrelay.hq.info import RunnerInfo, SessionInfo
from agentrelay.hq.input_queue import InputQueue
from agentrelay.hq.keyframes import Keyframes
from agentrelay.hq.log.export import asciicast
from agentrelay.hq.runner_link import RunnerLink
from agentrelay.hq.session import Session, State
from agentrelay.hq.store import RunnerRow, Store
from agentrelay.hq.upkeep import Upkeep
from agentrelay.protocol import pace
from agentrelay.protocol.ids import Epoch, RunnerId, SessionId, new_session_id
from agentrelay.protocol.messages import (
    MAX_TEXT_BYTES,
    Exited,
    Held,
    Register,
    Start,
    Started,
    StartNotDone,
    StartSession,
    encode,
)

log = logging.getLogger("agentrelay.hq")

MAX_START_BYTES = MAX_TEXT_BYTES - 1024
"""Largest start: on its way to the runner it grows by a few fields and is still one control message."""

MAX_RUNNERS = 1_000
"""Most runners that are known at a time, as whoever has the runner token may call itself anything."""

MAX_RUNNER_SESSIONS = 1_000
"""Most sessions of one runner that are not over, whether HQ starts them or the runner brings them."""

MAX_BROUGHT_SESSIONS = 10_000
"""How many sessions HQ may have in all and still take in one that a runner brings: each costs two memory
maps, of which Linux gives a process 65,530."""

START_S = 20.0
"""How long a runner may take to start a program."""


class Runner:
    """One runner; `link` is None while it is away."""

    def __init__(self, row: RunnerRow, registry: "Registry") -> None:
        self.row = row
        self.link: RunnerLink | None = None
        self.connected_at: float | None = None
        self._registry = registry

    def describe(self) -> RunnerInfo:
        """Give what the outside may know of it."""
        return self.describe_with(self._registry.live_sessions()[self.row.runner_id])

    def describe_with(self, sessions: int) -> RunnerInfo:
        """As `describe`, for who has counted its sessions already."""
        row = self.row
        return RunnerInfo(
            runner_id=row.runner_id,
            hostname=row.hostname,
            os=row.os,
            arch=row.arch,
            version=row.version,
            online=self.link is not None,
            connected_at=self.connected_at,
            last_seen_at=row.last_seen_at,
            presets=row.presets,
            sessions=sessions,
        )


class _Starting(NamedTuple):
    session: Session
    link: RunnerLink
    started: "asyncio.Future[None]"


class Registry:
    """All runners and sessions of this HQ; open it with `load`.

    Attributes:
        runners: by id, every one that has ever registered.
        sessions: by id, every one that has not been deleted.
    """

    def __init__(
        self,
        *,
        store: Store,
        events: EventHub,
        archive: Archive,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.runners: dict[RunnerId, Runner] = {}
        self.sessions: dict[SessionId, Session] = {}
        self._store = store
        self._events = events
        self._archive = archive
        self._clock = clock
        self._starting: dict[SessionId, _Starting] = {}
        self._changes = Changes(store, events, lambda session: session.session_id in self.sessions)
        self._upkeep = Upkeep(self._look_after)
        self._keyframes = Keyframes(rendering.keep_keyframe)
        self._unforgotten: set[Session] = set()  # over, and still held by their runners
        # Deleted, and perhaps still held by their runners, which are to end them when they come back.
        self._endings: dict[SessionId, RunnerId] = {}

    async def load(self) -> None:
        """Know every runner and session again after a restart."""
        for runner_row in await self._store.load_runners():
            self.runners[RunnerId(runner_row.runner_id)] = Runner(runner_row, self)
        for session_id, runner_id in (await self._store.load_endings()).items():
            self._endings[SessionId(session_id)] = RunnerId(runner_id)
        for row in await self._store.load_sessions():
            session = self._make_session(
                session_id=SessionId(row.session_id),
                runner_id=RunnerId(row.runner_id),
                name=row.name,
                command=row.command,
                preset=row.preset,
                cwd=row.cwd,
                rows=row.rows,
                cols=row.cols,
                recording=row.recording,
                created_at=row.created_at,
            )
            session.epoch = Epoch(row.epoch)
            session.pid = row.pid
            session.ended_at = row.ended_at
            session.exit_code = row.exit_code
            session.signal = row.signal
            state = State(row.state)
            # No link has come yet. A program that was being started either runs or not: its runner will tell.
            session.state = state if state.over else State.AWAY
            session.stop_asked = session.session_id in self._endings
            session.input = InputQueue(counted=False)
            if row.recording and row.epoch:  # without one its program was still being started: see `_claim`
                try:
                    session.recorder = await self._archive.reopen(session)
                except LogError as error:
                    log.warning("session %s goes on without its log: %s", row.session_id, error)
                    session.recording = False
            self.sessions[session.session_id] = session

    async def close(self) -> None:
        """Stop looking after sessions and finish what was begun; not for ever, as the disk may not answer."""
        self._keyframes.close()
        self._upkeep.close()
        await self._changes.close()

    # Looking things up

    def runner(self, runner_id: str) -> Runner:
        """Give a runner.

        Raises:
            UnknownRunner: none of this id has ever registered.
        """
        runner = self.runners.get(RunnerId(runner_id))
        if runner is None:
            raise UnknownRunner(f"there is no runner {runner_id[:64]!r}")
        return runner

    def session(self, session_id: str) -> Session:
        """Give a session.

        Raises:
            UnknownSession: there is none of this id.
        """
        session = self.sessions.get(SessionId(session_id))
        if session is None:
            raise UnknownSession(f"there is no session {session_id[:64]!r}")
        return session

    def describe_runners(self) -> list[RunnerInfo]:
        """Give what the outside may know of all runners."""
        sessions = self.live_sessions()
        return [runner.describe_with(sessions[runner_id]) for runner_id, runner in self.runners.items()]

    def live_sessions(self) -> Counter[str]:
        """Count the sessions that are not over, by runner id."""
        return Counter(session.runner_id for session in self.sessions.values() if not session.state.over)

    def describe_sessions(self) -> Iterator[SessionInfo]:
        """Give what the outside may know of all sessions, oldest first, each as it is when its turn comes."""
        return (session.describe() for session in list(self.sessions.values()))

    def online_runners(self) -> int:
        """Count the runners that have a link."""
        return sum(runner.link is not None for runner in self.runners.values())

    # What people ask for

    async def start_session(self, runner_id: str, wish: StartSession, *, for_viewer: bool = False) -> Session:
        """Start a session and wait until its program runs.

        It goes on also when whoever asked for it does not wait.

        Args:
            runner_id: where.
            wish: what.
            for_viewer: whether a viewer takes control next, or else is given up with `give_up_starter`.

        Raises:
            UnknownRunner: no runner of this id has ever registered.
            RunnerAway: it has no link, or lost it meanwhile.
            LimitReached: it has as many sessions as a runner may have.
            StartFailed: the program could not be started, and why.
        """
        runner = self.runner(runner_id)
        link = self._link_of(runner)
        if len(encode(wish)) > MAX_START_BYTES:
            raise StartFailed(
                "too_large", f"a start has at most {MAX_START_BYTES} bytes, environment included"
            )
        if self.live_sessions()[runner_id] >= MAX_RUNNER_SESSIONS:
            raise LimitReached(
                f"runner {runner_id} has {MAX_RUNNER_SESSIONS} sessions already; end some first"
            )
        session = self._make_session(
            session_id=new_session_id(),
            runner_id=RunnerId(runner_id),
            name=wish.name or _name(wish),
            command=wish.command or [],
            preset=wish.preset,
            cwd=wish.cwd,
            rows=wish.rows,
            cols=wish.cols,
            recording=wish.recording,
            created_at=self._clock(),
        )
        session.awaits_starter = for_viewer
        started = asyncio.get_running_loop().create_future()
        self.sessions[session.session_id] = session
        self._starting[session.session_id] = _Starting(session, link, started)
        try:
            await self._store.save_session(row_of(session))
            if runner.link is not link:
                raise _away(runner_id)
            stream = link.open_stream(session, limit=pace.WINDOW_BYTES)
            link.send_start(
                Start(
                    session_id=session.session_id,
                    stream=stream,
                    limit=pace.WINDOW_BYTES,
                    command=wish.command,
                    preset=wish.preset,
                    cwd=wish.cwd,
                    env=wish.env,
                    rows=wish.rows,
                    cols=wish.cols,
                )
            )
            async with asyncio.timeout(START_S):
                await asyncio.shield(started)
            # Its epoch has been told once it is told at all, so it has to outlive HQ from here on.
            await self._store.save_session(row_of(session))
        except TimeoutError:
            self._abandon(session, link)
            raise StartFailed(
                "start_failed", f"runner {runner_id} did not answer in {START_S:.0f} s"
            ) from None
        except BaseException:
            if session.state is State.STARTING or session.state is State.LOST:
                self._abandon(session, link)
            session.give_up_starter()
            raise
        finally:
            self._starting.pop(session.session_id, None)
        return session

    def delete_session(self, session_id: str) -> str:
        """End a session that runs ("stopping"), or remove one that has ended, with its log ("deleted").

        A session whose runner is away is ended when the runner comes back; deleted again meanwhile, it is
        removed at once, and ended all the same.

        Raises:
            UnknownSession: there is none of this id.
        """
        session = self.session(session_id)
        gone = session.state is State.AWAY and session.stop_asked
        self._endings[session.session_id] = session.runner_id
        self._changes.run(self._store.save_ending(session.session_id, session.runner_id))
        if not session.over and not gone:
            session.stop()
            return "stopping"
        if gone:
            session.give_up("the session has been removed while its runner is away")
        self._remove(session)
        if isinstance(session.recorder, LogRecorder):
            self._changes.run(self._archive.delete(session.recorder))
        return "deleted"

    def export_session(self, session_id: str, version: Literal[2, 3]) -> Iterator[bytes]:
        """Give a session's recording as an asciicast, line by line; each line may wait for the disk.

        Raises:
            UnknownSession: there is none of this id.
            NotRecorded: it was started without recording.
        """
        session = self.session(session_id)
        if not isinstance(session.recorder, LogRecorder):
            raise NotRecorded("the session was started without recording")
        return asciicast(session.recorder.log.records(), version=version, title=session.name)

    def _remove(self, session: Session) -> None:
        del self.sessions[session.session_id]
        self._upkeep.drop(session)
        if session in self._unforgotten:
            self._forget(session)
        for follower in list(session.followers):
            follower.on_trouble("session_over", "the session has been removed")
            session.detach(follower)
        self._changes.run(self._store.delete_session(session.session_id))
        self._events.publish("session_removed", {"session_id": session.session_id})

    def _abandon(self, session: Session, link: RunnerLink) -> None:
        """Forget a session that did not come about; should it run after all, its runner holds it."""
        stream = link.stream_of(session.session_id)
        if stream is not None:
            link.close_stream(stream)
            link.send_stop(stream)
        if session.session_id in self.sessions:
            self._remove(session)

    # What runners tell

    def link_up(self, link: RunnerLink, register: Register) -> list[tuple[Session, int, int, int]]:
        """Take a registered link; gives each session that goes on with the runner's base, head and input.

        Raises:
            ProtocolError: there are as many runners as may be.
        """
        runner_id = link.runner_id
        if runner_id not in self.runners and len(self.runners) >= MAX_RUNNERS:
            self._forget_runner()
        row = RunnerRow(
            runner_id=runner_id,
            hostname=register.hostname,
            os=register.os,
            arch=register.arch,
            version=register.version,
            last_seen_at=self._clock(),
            presets=register.presets,
        )
        runner = self.runners.setdefault(runner_id, Runner(row, self))
        runner.row = row
        if runner.link is not None:
            log.info("runner %s has a newer link; the older one is closed", runner_id)
            runner.link.fence()
            self._fail_starts(runner.link)
        runner.link = link
        runner.connected_at = self._clock()
        self._changes.run(self._store.save_runner(row))
        going_on = []
        room = self._room_for(runner_id)
        refused = 0
        for held in register.sessions:
            known = SessionId(held.session_id) in self.sessions or SessionId(held.session_id) in self._endings
            if not known and room <= 0:
                refused += 1
                continue
            session = self._claim(runner_id, held)
            room -= session is not None and not known
            if session is not None:
                going_on.append((session, held.base, held.head, held.input))
        if refused:
            message = f"HQ did not know {refused} of the sessions of {runner_id} and takes in no more of them"
            log.warning("%s", message)
            link.send_error("limit_reached", message)
        self._forget_endings(runner_id, {held.session_id for held in register.sessions})
        brought_back = {session.session_id for session, *_ in going_on}
        for session in self.sessions.values():
            if session.runner_id == runner_id and session.session_id not in brought_back:
                session.give_up("the runner came back without this session")
        self._events.publish("runner", runner.describe())
        log.info("runner %s is connected with %d sessions", runner_id, len(going_on))
        return going_on

    def _forget_runner(self) -> None:
        """Make room for another runner: forget the one without sessions that has been away longest."""
        owners = {session.runner_id for session in self.sessions.values()}
        away = [runner for name, runner in self.runners.items() if runner.link is None and name not in owners]
        if not away:
            log.warning("a new runner is refused: HQ has %d, and none that it could forget", MAX_RUNNERS)
            raise ProtocolError("limit_reached", f"this HQ has {MAX_RUNNERS} runners, which is all it takes")
        row = min(away, key=lambda runner: runner.row.last_seen_at or 0.0).row
        del self.runners[RunnerId(row.runner_id)]
        self._changes.run(self._store.delete_runner(row.runner_id))
        self._events.publish("runner_removed", {"runner_id": row.runner_id})
        log.info("runner %s is forgotten, to make room for a new one", row.runner_id)

    def _room_for(self, runner_id: RunnerId) -> int:
        """Give how many sessions that HQ does not know a runner may still bring; lost ones count too."""
        sessions = Counter(
            session.runner_id for session in self.sessions.values() if session.state is not State.ENDED
        )
        return min(MAX_RUNNER_SESSIONS - sessions[runner_id], MAX_BROUGHT_SESSIONS - sum(sessions.values()))

    def _forget_endings(self, runner_id: RunnerId, held: set[str]) -> None:
        """Forget which sessions were deleted, where their runner does not hold them any more."""
        for session_id, owner in list(self._endings.items()):
            if owner == runner_id and session_id not in held and session_id not in self.sessions:
                del self._endings[session_id]
                self._changes.run(self._store.delete_ending(session_id))

    def _claim(self, runner_id: RunnerId, held: Held) -> Session | None:
        """Give the session that a runner holds; None for one that is to be forgotten."""
        session = self.sessions.get(SessionId(held.session_id))
        if session is None and SessionId(held.session_id) in self._endings:
            return None
        if session is None:
            # HQ has lost its data, or gave up on a start that succeeded: better a session too many.
            return self._adopt(runner_id, held)
        if session.runner_id != runner_id:
            log.warning("runner %s holds session %s of %s", runner_id, held.session_id, session.runner_id)
            return None
        if session.epoch != held.epoch:
            if session.epoch:
                log.warning("session %s has come back as another one", held.session_id)
                return None
            # It was being started when its link was lost, or HQ died.
            session.epoch = Epoch(held.epoch)
            if session.recording:
                self._open_log(session)
                self._changes.note(session)
        if session.state is State.ENDED:
            return None
        session.pid = held.pid
        return session

    def _adopt(self, runner_id: RunnerId, held: Held) -> Session | None:
        log.warning("runner %s holds session %s, which HQ did not know", runner_id, held.session_id)
        session = self._make_session(
            session_id=SessionId(held.session_id),
            runner_id=runner_id,
            name=PurePath(held.command[0]).name if held.command else "session",
            command=held.command,
            preset=None,
            cwd=held.cwd,
            rows=held.rows,
            cols=held.cols,
            recording=True,
            created_at=self._clock(),
        )
        session.epoch = Epoch(held.epoch)
        session.pid = held.pid
        session.state = State.AWAY
        self._open_log(session)
        self.sessions[session.session_id] = session
        self._changes.run(self._store.save_session(row_of(session)))
        return None if session.state is State.ENDED else session

    def _open_log(self, session: Session) -> None:
        """Begin the log of a session that its runner holds, or go on with what there is of it."""
        try:
            session.recorder = self._archive.adopt(session)
        except LogError as error:
            log.warning("session %s goes on without its log: %s", session.session_id, error)
            session.recording = False

    def link_down(self, link: RunnerLink) -> None:
        """Mark a runner as away."""
        runner = self.runners.get(link.runner_id)
        if runner is None or runner.link is not link:
            return
        runner.link = None
        self._fail_starts(link)
        runner.row = msgspec.structs.replace(runner.row, last_seen_at=self._clock())
        self._changes.run(self._store.save_runner(runner.row))
        self._events.publish("runner", runner.describe())

    def program_started(self, link: RunnerLink, message: Started) -> None:
        """Go on with whoever waits for a program to run."""
        starting = self._starting.get(SessionId(message.session_id))
        if starting is None or starting.link is not link or starting.started.done():
            return
        session = starting.session
        session.command = message.command
        session.cwd = message.cwd
        session.rows, session.cols = message.rows, message.cols
        stream = link.stream_of(session.session_id)
        if stream is None:
            return
        if session.recording:
            session.epoch = Epoch(message.epoch)
            session.recorder = self._archive.open(session)
        session.start(
            epoch=Epoch(message.epoch), pid=message.pid, link=link, stream=stream, limit=pace.WINDOW_BYTES
        )
        starting.started.set_result(None)

    def program_not_started(self, link: RunnerLink, message: StartNotDone) -> None:
        """Tell whoever waits for a program that it could not be started."""
        starting = self._starting.get(SessionId(message.session_id))
        if starting is not None and starting.link is link and not starting.started.done():
            stream = link.stream_of(starting.session.session_id)
            if stream is not None:
                link.close_stream(stream)
            starting.started.set_exception(StartFailed(message.code, message.message))

    def program_exited(self, session: Session, message: Exited) -> None:
        """End a session; the runner may forget it once store and log have all of it."""
        session.on_exited(exit_code=message.exit_code, signal=message.signal)
        self._changes.run(self._keep_end(session))

    async def _keep_end(self, session: Session) -> None:
        await self._store.save_session(row_of(session))
        if session.session_id in self.sessions:
            self._unforgotten.add(session)
            self._upkeep.note(session)
        else:
            self._forget(session)

    def _forget(self, session: Session) -> None:
        self._unforgotten.discard(session)
        link = self.runners[session.runner_id].link
        if link is not None:
            link.send_forget(session.session_id)

    def _link_of(self, runner: Runner) -> RunnerLink:
        if runner.link is None:
            raise _away(runner.row.runner_id)
        return runner.link

    def _fail_starts(self, link: RunnerLink) -> None:
        for starting in self._starting.values():
            if starting.link is link and not starting.started.done():
                starting.started.set_exception(_away(link.runner_id))

    # Looking after sessions

    def _make_session(self, **facts: Any) -> Session:
        return Session(
            changed=self._changes.note,
            active=self._upkeep.note,
            unattended=rendering.answer_queries,
            **facts,
        )

    def _look_after(self, session: Session) -> bool:
        if session in self._unforgotten and session.acked >= session.head:
            self._forget(session)
        self._keyframes.look_at(session)
        return session.settle()


def _away(runner_id: str) -> RunnerAway:
    return RunnerAway(f"runner {runner_id} is not connected")


def _name(wish: StartSession) -> str:
    if wish.preset:
        return wish.preset
    if wish.command:
        return PurePath(wish.command[0]).name or shlex.join(wish.command)[:200]
    return "shell"
