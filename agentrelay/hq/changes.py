"""Changes: what happens to sessions is told to subscribers and saved, a little later and a few at a time."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from agentrelay.errors import AgentRelayError
from agentrelay.hq.events import EventHub
from agentrelay.hq.session import Session, State
from agentrelay.hq.store import SessionRow, Store

log = logging.getLogger("agentrelay.hq")

CHANGES_A_TURN = 16
"""How many sessions' changes are told and saved before everything else has a turn: 2 ms."""

CLOSE_S = 5.0
"""How long HQ waits for what is still to be stored or deleted when it stops."""


class Changes:
    """Tells and saves what has changed, and does what else nobody waits for.

    Args:
        store: where sessions are saved.
        events: where they are told.
        is_known: whether a session has not been removed meanwhile.
    """

    def __init__(self, store: Store, events: EventHub, is_known: Callable[[Session], bool]) -> None:
        self._store = store
        self._events = events
        self._is_known = is_known
        self._changed: dict[Session, None] = {}  # oldest change first
        self._saved: WeakKeyDictionary[Session, SessionRow] = WeakKeyDictionary()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be told or done."""
        return not self._changed and not self._running

    def note(self, session: Session) -> None:
        """Have a change told and saved soon: a link that comes or goes changes all sessions of its runner."""
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._tell_some)
        self._changed[session] = None

    def _tell_some(self) -> None:
        for session in list(islice(self._changed, CHANGES_A_TURN)):
            del self._changed[session]
            if self._is_known(session) and session.state is not State.STARTING:
                self._tell(session)
        if self._changed:
            asyncio.get_running_loop().call_soon(self._tell_some)

    def _tell(self, session: Session) -> None:
        self._events.publish("session", session.describe())
        row = row_of(session)
        if self._saved.get(session) != row:
            # Viewers come and go without a trace on disk.
            self._saved[session] = row
            self.run(self._store.save_session(row))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for; a failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            expected = isinstance(error, AgentRelayError)
            log.error("%s", error, exc_info=None if expected else error)

    async def close(self) -> None:
        """Finish what was begun; not for ever, as the disk may not answer."""
        while self._changed:
            self._tell_some()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self._running:
                    await asyncio.wait(self._running)


def row_of(session: Session) -> SessionRow:
    """Give what is saved of a session."""
    return SessionRow(
        session_id=session.session_id,
        runner_id=session.runner_id,
        name=session.name,
        command=session.command,
        rows=session.rows,
        cols=session.cols,
        state=session.state.text,
        created_at=session.created_at,
        preset=session.preset,
        cwd=session.cwd,
        epoch=session.epoch,
        pid=session.pid,
        ended_at=session.ended_at,
        exit_code=session.exit_code,
        signal=session.signal,
        recording=session.recorded,
    )
