"""Claims: which of the sessions that a runner holds go on when its link comes back.

Nearly always all of them. The rest of this is about sessions that one of the two has forgotten, or that
somebody deleted while the runner was away.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import PurePath

from agentrelay.errors import LogError
from agentrelay.hq.archive import Archive, LogRecorder
from agentrelay.hq.changes import Changes, row_of
from agentrelay.hq.runner_link import RunnerLink
from agentrelay.hq.session import Session, State
from agentrelay.hq.store import Store
from agentrelay.protocol.ids import Epoch, RunnerId, SessionId
from agentrelay.protocol.messages import Held, Register

log = logging.getLogger("agentrelay.hq")

MAX_RUNNER_SESSIONS = 1_000
"""Most sessions of one runner that are not over, whether HQ starts them or the runner brings them."""

MAX_BROUGHT_SESSIONS = 10_000
"""How many sessions HQ may have in all, ended ones too, and still take in one that a runner brings: each
costs two memory maps, of which Linux gives a process 65,530."""

CLAIMED_A_TURN = 32
"""How many of a link's sessions are looked at before everything else has a turn."""


class Claims:
    """Decides for the registry, whose sessions it adds to.

    Args:
        sessions: every session that HQ knows, by id.
        store: remembers which were deleted.
        archive: has their logs.
        changes: tells and saves them.
        make: makes a session of its facts.
    """

    def __init__(
        self,
        sessions: dict[SessionId, Session],
        *,
        store: Store,
        archive: Archive,
        changes: Changes,
        make: Callable[..., Session],
    ) -> None:
        self._sessions = sessions
        self._store = store
        self._archive = archive
        self._changes = changes
        self._make = make
        # Deleted, and perhaps still held by their runners, which are to end them when they come back.
        self._deleted: dict[SessionId, RunnerId] = {}
        self._adopting: set[SessionId] = set()

    async def load(self) -> None:
        """Know again which sessions were deleted."""
        for session_id, runner_id in (await self._store.load_endings()).items():
            self._deleted[SessionId(session_id)] = RunnerId(runner_id)

    def note_deleted(self, session: Session) -> None:
        """Remember, until its runner holds it no more, that a session is to be ended."""
        self._deleted[session.session_id] = session.runner_id
        self._changes.run(self._store.save_ending(session.session_id, session.runner_id))

    def is_deleted(self, session_id: SessionId) -> bool:
        """Tell whether a session is to be ended when its runner brings it back."""
        return session_id in self._deleted

    async def claim(self, link: RunnerLink, register: Register) -> list[tuple[Session, int, int, int]]:
        """Give each session that goes on with the runner's base, head and input.

        None go on, and not all have been looked at, once the link is gone.
        """
        runner_id = link.runner_id
        going_on: list[tuple[Session, int, int, int]] = []
        room = self._room_for(runner_id)
        refused = 0
        for number, held in enumerate(register.sessions, 1):
            if number % CLAIMED_A_TURN == 0:
                await asyncio.sleep(0)
            if link.gone:
                return []
            session_id = SessionId(held.session_id)
            known = session_id in self._sessions or session_id in self._deleted
            if not known and room <= 0:
                refused += 1
                continue
            session = await self._claim_one(runner_id, held)
            room -= session is not None and not known
            if session is not None:
                going_on.append((session, held.base, held.head, held.input))
        if link.gone:
            return []
        if refused:
            message = f"HQ did not know {refused} of the sessions of {runner_id} and takes in no more of them"
            log.warning("%s", message)
            link.send_error("limit_reached", message)
        self._forget_deleted(runner_id, {held.session_id for held in register.sessions})
        brought_back = {session.session_id for session, *_ in going_on}
        for session in self._sessions.values():
            if session.runner_id == runner_id and session.session_id not in brought_back:
                session.give_up("the runner came back without this session")
        return going_on

    def _room_for(self, runner_id: RunnerId) -> int:
        """Give how many sessions that HQ does not know a runner may still bring; lost ones count too."""
        of_runner = sum(
            session.runner_id == runner_id and session.state is not State.ENDED
            for session in self._sessions.values()
        )
        return min(MAX_RUNNER_SESSIONS - of_runner, MAX_BROUGHT_SESSIONS - len(self._sessions))

    def _forget_deleted(self, runner_id: RunnerId, held: set[str]) -> None:
        """Forget which sessions were deleted, where their runner does not hold them any more."""
        for session_id, owner in list(self._deleted.items()):
            if owner == runner_id and session_id not in held and session_id not in self._sessions:
                del self._deleted[session_id]
                self._changes.run(self._store.delete_ending(session_id))

    async def _claim_one(self, runner_id: RunnerId, held: Held) -> Session | None:
        """Give the session that a runner holds; None for one that is to be forgotten."""
        session = self._sessions.get(SessionId(held.session_id))
        if session is None and SessionId(held.session_id) in self._deleted:
            return None
        if session is None:
            # HQ has lost its data, or gave up on a start that succeeded: better a session too many.
            return await self._adopt(runner_id, held)
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
                await self._open_log(session)
                if session.session_id not in self._sessions:  # it was removed meanwhile
                    if isinstance(session.recorder, LogRecorder):
                        self._changes.run(self._archive.delete(session.recorder))
                    return None
                self._changes.note(session)
        if session.state is State.ENDED:
            return None
        session.pid = held.pid
        return session

    async def _adopt(self, runner_id: RunnerId, held: Held) -> Session | None:
        session_id = SessionId(held.session_id)
        if session_id in self._adopting:
            log.warning("two runners hold session %s, which HQ did not know", session_id)
            return None
        log.warning("runner %s holds session %s, which HQ did not know", runner_id, session_id)
        session = self._make(
            session_id=session_id,
            runner_id=runner_id,
            name=PurePath(held.command[0]).name if held.command else "session",
            command=held.command,
            preset=None,
            cwd=held.cwd,
            rows=held.rows,
            cols=held.cols,
            recording=True,
        )
        session.epoch = Epoch(held.epoch)
        session.pid = held.pid
        session.state = State.AWAY
        self._adopting.add(session_id)
        try:
            await self._open_log(session)
        finally:
            self._adopting.discard(session_id)
        self._sessions[session_id] = session
        self._changes.run(self._store.save_session(row_of(session)))
        return None if session.state is State.ENDED else session

    async def _open_log(self, session: Session) -> None:
        """Begin the log of a session that its runner holds, or go on with what there is of it."""
        try:
            session.recorder = await self._archive.reopen(session)
        except LogError as error:
            log.warning("session %s goes on without its log: %s", session.session_id, error)
            session.recording = False
