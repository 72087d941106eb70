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
from agentrelay.hq.claims import MAX_RUNNER_SESSIONS, Claims
from agentrelay.hq.events import EventHub
from agentrelay.hq.info import RunnerInfo
from agentrelay.hq.input_queue import InputQueue
from agentrelay.hq.keyframes import Keyframes
from agentrelay.hq.log.export import asciicast
from agentrelay.hq.runner_link import RunnerLink
from agentrelay.hq.session import Session, State
from agentrelay.hq.store import RunnerRow, Store
from agentrelay.hq.titles import Titles
from agentrelay.hq.upkeep import Upkeep
from agentrelay.protocol import pace
from agentrelay.protocol.ids import Epoch, RunnerId, SessionId, new_session_id
from agentrelay.protocol.messages import (
    MAX_TEXT_BYTES,
    Exited,
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

START_S = 20.0
"""How long a runner may take to start a program."""


class Runner:
    """One runner; `link` is None while it is away."""

    def __init__(self, row: RunnerRow, registry: "Registry") -> None:
        self.row = row
        self.link: RunnerLink | None = None
        self.connected_at: float | None = None
        self.taking_in = asyncio.Lock()
        """Held while its sessions are taken in: those of one link after those of another."""
        self._registry = registry

    @property
    def online(self) -> bool:
        """Whether programs can be started there."""
        return self.link is not None and self.link.registered

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
            online=self.online,
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
        self._titles = Titles()
        self._unforgotten: set[Session] = set()  # over, and still held by their runners
        self._claims = Claims(
            self.sessions, store=store, archive=archive, changes=self._changes, make=self._make_session
        )

    async def load(self) -> None:
        """Know every runner and session again after a restart."""
        for runner_row in await self._store.load_runners():
            self.runners[RunnerId(runner_row.runner_id)] = Runner(runner_row, self)
        await self._claims.load()
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
            session.stop_asked = self._claims.is_deleted(session.session_id)
            session.input = InputQueue(counted=False)
            if row.recording and row.epoch:  # without one its program was still being started: see `Claims`
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

    def describe_sessions(self) -> Iterator[bytes]:
        """Give the `SessionInfo` of all sessions as JSON, oldest first, each as it is when its turn comes."""
        return (session.describe_json() for session in list(self.sessions.values()))

    def count_runners(self) -> Counter[bool]:
        """Count the runners by whether they are online."""
        return Counter(runner.online for runner in self.runners.values())

    def count_sessions(self) -> Counter[str]:
        """Count the sessions by state."""
        return Counter(session.state.text for session in self.sessions.values())

    def count_viewers(self) -> int:
        """Count the attached viewers."""
        return sum(len(session.followers) for session in self.sessions.values())

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
        self._claims.note_deleted(session)
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

    def link_up(self, link: RunnerLink, register: Register) -> None:
        """Take a link, in the place of an older one of the same runner, and let its sessions go on soon.

        Raises:
            ProtocolError: another runner of this id is connected, or there are as many runners as may be.
        """
        runner_id = link.runner_id
        self._refuse_namesake(link)
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
        older = runner.link
        if older is not None:
            log.info("runner %s has a newer link; the older one is closed", runner_id)
            older.fence()
        runner.link = link
        runner.connected_at = self._clock()
        self._changes.run(self._store.save_runner(row))
        self._changes.run(self._take_in(runner, link, older, register))

    def _refuse_namesake(self, link: RunnerLink) -> None:
        """See that two runners do not take the link, and their sessions, from each other without end."""
        runner = self.runners.get(link.runner_id)
        if runner is None or runner.link is None:
            return
        if link.instance and runner.link.instance and link.instance != runner.link.instance:
            raise ProtocolError(
                "runner_id_in_use",
                f"a runner on {runner.row.hostname} is connected as {link.runner_id}; give this one a new id",
            )

    async def _take_in(
        self, runner: Runner, link: RunnerLink, older: RunnerLink | None, register: Register
    ) -> None:
        """Let the sessions of a link go on, a few in each turn of the loop."""
        try:
            async with runner.taking_in:
                going_on = await self._claims.claim(link, register)
                link.go_on(going_on)
        except ProtocolError as error:
            log.warning("runner %s is refused: %s", link.runner_id, error)
            link.refuse(error)
        except Exception as error:
            link.refuse(error)
            raise
        finally:
            if older is not None:  # what was being started on it, and is not among what goes on
                self._fail_starts(older)
        if link.registered:
            self._events.publish("runner", runner.describe())
            log.info("runner %s is connected with %d sessions", link.runner_id, len(going_on))

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
        if runner.link is None or not runner.online:
            raise _away(runner.row.runner_id)
        return runner.link

    def _fail_starts(self, link: RunnerLink) -> None:
        for starting in self._starting.values():
            if starting.link is link and not starting.started.done():
                starting.started.set_exception(_away(link.runner_id))

    # Looking after sessions

    def _make_session(self, **facts: Any) -> Session:
        facts.setdefault("created_at", self._clock())
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
        self._titles.look_at(session)
        return session.settle()


def _away(runner_id: str) -> RunnerAway:
    return RunnerAway(f"runner {runner_id} is not connected")


def _name(wish: StartSession) -> str:
    if wish.preset:
        return wish.preset
    if wish.command:
        return PurePath(wish.command[0]).name or shlex.join(wish.command)[:200]
    return "shell"
