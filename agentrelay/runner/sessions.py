"""All sessions of this runner: what the keeper holds, put together with what is done to them here.

Knows nothing of the link: whoever has one follows the sessions in `held`.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Mapping

from agentrelay.errors import StartFailed
from agentrelay.protocol.ids import new_epoch
from agentrelay.protocol.messages import Start
from agentrelay.runner.keeper_client import KeeperClient
from agentrelay.runner.launch import plan_launch
from agentrelay.runner.paths import RunnerDirectory
from agentrelay.runner.presets import Preset
from agentrelay.runner.process_group import group_exists
from agentrelay.runner.pty import Exit, Facts, PtySession
from agentrelay.runner.read_queue import ReadQueue
from agentrelay.runner.read_turn import ReadTurn

log = logging.getLogger("agentrelay.runner")

RING_BYTES = 8 << 20
"""How much of a session's output is kept here at most until HQ has it; then its program waits."""

KILL_AFTER_S = 5.0
_STOP_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT)  # the last wakes one that is stopped


class Sessions:
    """The sessions, by id.

    Args:
        directory: the private directory of the runner id.
        runner_id: the runner id.
        presets: what `start` may name.
        environ: what programs inherit, less what is secret.
        ring_bytes: size of each session's ring, a power of two from 131,072.

    Attributes:
        held: those HQ may ask for.
        keeper: who owns their PTYs.
    """

    def __init__(
        self,
        directory: RunnerDirectory,
        runner_id: str,
        presets: Mapping[str, Preset],
        *,
        environ: Mapping[str, str] = os.environ,
        ring_bytes: int = RING_BYTES,
    ) -> None:
        self.held: dict[str, PtySession] = {}
        self.keeper = KeeperClient(directory, runner_id, self)
        self._presets = presets
        self._environ = environ
        self._ring_bytes = ring_bytes
        self._loop = asyncio.get_running_loop()
        self._turn = ReadTurn()
        self._queue = ReadQueue(self._loop)
        self._starting: dict[str, Exit | None] = {}
        self._abandoned: dict[str, PtySession] = {}
        self._killing: dict[str, asyncio.TimerHandle] = {}
        self._forget_after_kill: set[str] = set()
        self._told: set[str] = set()

    # --- life of a session ------------------------------------------------------------------------

    async def start(self, asked: Start) -> PtySession:
        """Start a program.

        Raises:
            StartFailed: with the code and the sentence for the person who asked.
        """
        session_id = asked.session_id
        if session_id in self.held or session_id in self._starting:
            raise StartFailed("start_failed", f"session {session_id} has been started already")
        launch = plan_launch(asked, self._presets, self._environ)
        epoch = new_epoch()
        self._starting[session_id] = None
        try:
            pid, master, memory = await self.keeper.spawn(
                session_id, epoch, launch, rows=asked.rows, cols=asked.cols, ring_bytes=self._ring_bytes
            )
        finally:
            end = self._starting.pop(session_id)
        facts = Facts(session_id, epoch, pid, launch.command, launch.cwd, self._ring_bytes)
        session = self.held[session_id] = self._take(facts, master, memory)
        if end is not None:
            session.take_exit(end)
        return session

    def stop(self, session: PtySession) -> None:
        """End a program: SIGHUP and SIGTERM to its process group, SIGKILL after 5 s."""
        session_id = session.facts.session_id
        if session_id not in self._killing:
            for number in _STOP_SIGNALS:
                self._signal(session, number)
            self._killing[session_id] = self._loop.call_later(KILL_AFTER_S, self._kill, session)

    def forget(self, session_id: str) -> None:
        """Drop a session whose output and exit are safe; one that is not over is ended first."""
        session = self.held.pop(session_id, None) or self._abandoned.pop(session_id, None)
        if session is None:
            return
        if not session.over:
            self._abandon(session)
            return
        session.close()
        if session_id in self._killing and group_exists(session.facts.pid):
            # What its command left behind still has to be killed, and only the keeper can tell whom.
            self._forget_after_kill.add(session_id)
        else:
            if (killing := self._killing.pop(session_id, None)) is not None:
                killing.cancel()
            self.keeper.forget(session_id)

    def abandon(self, session_id: str) -> None:
        """End a session that nobody will ask for again, and forget it."""
        session = self.held.pop(session_id, None)
        if session is not None:
            self._abandon(session)

    def _abandon(self, session: PtySession) -> None:
        session_id = session.facts.session_id
        log.info("session %s is not wanted any more; it is ended", session_id)
        self._abandoned[session_id] = session
        session.discard(_Farewell(self, session_id))
        if session.over:
            self.forget(session_id)
        else:
            self.stop(session)

    async def stop_all(self) -> None:
        """End every program and the keeper, and wait until every session is over."""
        self.keeper.stop()
        over = [session.wait_over() for session in (*self.held.values(), *self._abandoned.values())]
        await asyncio.gather(*over)

    def close(self) -> None:
        """Let go of everything here; the keeper has it."""
        for timer in self._killing.values():
            timer.cancel()
        self.keeper.close()
        for session in (*self.held.values(), *self._abandoned.values()):
            session.close()
        self.held.clear()
        self._abandoned.clear()

    def _kill(self, session: PtySession) -> None:
        session_id = session.facts.session_id
        del self._killing[session_id]
        self._signal(session, signal.SIGKILL)
        if session_id in self._forget_after_kill:
            self._forget_after_kill.remove(session_id)
            self.keeper.forget(session_id)

    def _signal(self, session: PtySession, number: signal.Signals) -> None:
        """Signal through the keeper, which knows whether the process group is still the same one."""
        if not self.keeper.signal(session.facts.session_id, number):
            session.signal_group(number)

    def _take(self, facts: Facts, master: int, memory: int) -> PtySession:
        return PtySession(
            facts, master=master, memory=memory, turn=self._turn, queue=self._queue, loop=self._loop
        )

    # --- what the keeper tells --------------------------------------------------------------------

    def on_held(self, facts: Facts, end: Exit | None, master: int, memory: int) -> None:
        """Take over a session, or hear again of a known one."""
        session_id = facts.session_id
        self._told.add(session_id)
        session = self.held.get(session_id) or self._abandoned.get(session_id)
        if session is not None:
            os.close(master)
            os.close(memory)
            session.regain_keeper()
        else:
            try:
                session = self._take(facts, master, memory)
            except (OSError, ValueError) as error:
                log.error("session %s cannot be taken over, it is ended: %s", session_id, error)  # noqa: TRY400
                os.close(master)
                os.close(memory)
                self.keeper.signal(session_id, signal.SIGHUP)
                self.keeper.forget(session_id)
                return
            self.held[session_id] = session
        if end is not None:
            session.take_exit(end)

    def on_exited(self, session_id: str, end: Exit) -> None:
        """Hear how a command ended."""
        session = self.held.get(session_id) or self._abandoned.get(session_id)
        if session is not None:
            session.take_exit(end)
        elif session_id in self._starting:
            self._starting[session_id] = end  # told in one breath with `spawned`

    def on_keeper_lost(self) -> None:
        """Go on with what is here."""
        self._told.clear()
        for session in (*self.held.values(), *self._abandoned.values()):
            session.lose_keeper()

    def on_keeper_ready(self) -> None:
        """Hand over to a new keeper what the old one held."""
        told, self._told = self._told, set()
        for session_id, session in (*self.held.items(), *self._abandoned.items()):
            if session_id not in told:
                self.keeper.adopt(
                    session.facts, size=session.size, master=session.master, memory=session.memory
                )


class _Farewell:
    """Follows an abandoned session to its end."""

    def __init__(self, sessions: Sessions, session_id: str) -> None:
        self._sessions = sessions
        self._session_id = session_id

    def on_output(self, n_bytes: int, *, more: bool) -> None:
        """Nobody wants it."""

    def on_input_applied(self) -> None:
        """Nobody types."""

    def on_over(self) -> None:
        """Forget it."""
        self._sessions.forget(self._session_id)
