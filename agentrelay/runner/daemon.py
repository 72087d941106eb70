"""The runner daemon: the keeper's sessions, and a link to HQ that is dialled again whenever it is lost."""

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import NamedTuple

from agentrelay import open_files
from agentrelay.errors import ConfigError
from agentrelay.garbage import Garbage
from agentrelay.protocol.backoff import Backoff
from agentrelay.protocol.messages import Preset as PresetInfo
from agentrelay.runner.link import Link
from agentrelay.runner.paths import RunnerDirectory, read_instance
from agentrelay.runner.presets import Preset, installed
from agentrelay.runner.registration import Identity
from agentrelay.runner.sessions import Sessions
from agentrelay.transport.dial import DialError, dial

log = logging.getLogger("agentrelay.runner")

REGISTER_S = 10.0
"""How long HQ may take to answer `register`."""

CLOSE_S = 2.0
"""How long HQ may take to see the link closed when the runner ends."""

STOP_S = 8.0
"""How long ending all sessions may take: 5 s to SIGKILL, and time to send what they still said."""

EAGER_FOR_S = 60.0
EAGER_S = 1.5
"""For so long after a link was lost the waits between tries have at most this length: who restarts HQ has
their terminals back within 2 s."""

_REFUSED = (401, 403)


class RunnerConfig(NamedTuple):
    """What a runner has to know."""

    hq_url: str
    runner_id: str
    token: str


class Daemon:
    """The running runner.

    Args:
        config: where HQ is, and as whom to register.
        directory: the private directory of the runner id, whose runner lock is held.
        presets: what may be started by name.
    """

    def __init__(self, config: RunnerConfig, directory: RunnerDirectory, presets: dict[str, Preset]) -> None:
        self._config = config
        self._identity = Identity(config.runner_id, read_instance(directory))
        self._presets = presets
        self._sessions = Sessions(directory, config.runner_id, presets)
        self._link: Link | None = None
        self._ending = asyncio.Event()
        self._end_sessions = False
        self._said = ""

    async def run(self) -> None:
        """Serve until `end` is called.

        Raises:
            ConfigError: HQ refuses the token at the first try, or its URL is none.
            KeeperError: there is no keeper and none can be started.
        """
        await self._sessions.keeper.connect()
        if self._sessions.held:
            log.info("sessions still here from before: %d", len(self._sessions.held))
        garbage = Garbage(lambda: sum(session.ring.head for session in self._sessions.held.values()))
        garbage.start()
        dialling = asyncio.create_task(self._keep_linked())
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((dialling, ending), return_when=asyncio.FIRST_COMPLETED)
            if dialling.done():
                dialling.result()
            elif self._end_sessions:
                await self._stop_sessions()
            await self._hang_up()
        finally:
            ending.cancel()
            dialling.cancel()
            garbage.close()
            self._sessions.close()

    def end(self, *, sessions: bool) -> None:
        """Let `run` come back.

        Args:
            sessions: whether to end the sessions, too.
        """
        self._end_sessions = sessions
        self._ending.set()

    async def _stop_sessions(self) -> None:
        n_sessions = len(self._sessions.held)
        try:
            async with asyncio.timeout(STOP_S):
                await self._sessions.stop_all()
                if self._link is not None:
                    await self._link.wait_exits_told()
        except TimeoutError:
            log.warning("not every session has ended within %.0f s", STOP_S)
        log.info("ended the keeper and its sessions: %d", n_sessions)

    async def _hang_up(self) -> None:
        if self._link is not None and not self._link.closed.done():
            fate = "with its sessions" if self._end_sessions else "and its sessions go on"
            self._link.close(f"the runner ends {fate}")
            await asyncio.wait((self._link.closed,), timeout=CLOSE_S)
        running = sum(not session.over for session in self._sessions.held.values())
        if running and not self._end_sessions:
            advice = "`agentrelay-runner --stop` ends them"
            log.info("sessions that go on in keeper %d: %d; %s", self._sessions.keeper.pid, running, advice)

    # --- the link ---------------------------------------------------------------------------------

    async def _keep_linked(self) -> None:
        """Dial for ever. One line is logged for each change of state, not for each try."""
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        first = True
        lost_s = loop.time()
        while True:
            try:
                await self._serve_link(lambda: backoff.connected(loop.time()))
            except DialError as error:
                if first and error.status in _REFUSED:
                    raise ConfigError(_refusal(self._config.hq_url, error.status or 0)) from None
                hint = "; does the URL end in /ws/runner?" if error.status == 404 else ""
                self._say(logging.WARNING, f"HQ at {self._config.hq_url}: {error}{hint}; trying on")
            else:
                first = False
                lost_s = loop.time()
            delay_s = backoff.delay_s(loop.time())
            await asyncio.sleep(min(delay_s, EAGER_S) if loop.time() - lost_s < EAGER_FOR_S else delay_s)

    async def _serve_link(self, connected: Callable[[], None]) -> None:
        """Dial once, and stay until the link is gone."""
        link = Link(self._sessions, self._identity, self._preset_infos())
        endpoint = await dial(self._config.hq_url, token=self._config.token, handler=link)
        self._link = link
        link.open(endpoint)
        registering = asyncio.create_task(link.registered.wait())
        try:
            async with asyncio.timeout(REGISTER_S):
                await asyncio.wait((registering, link.closed), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            endpoint.abort()
            await link.closed
            raise DialError(f"it does not answer `register` within {REGISTER_S:.0f} s") from None
        finally:
            registering.cancel()
        if not link.registered.is_set():
            code, reason = await link.closed
            raise DialError(f"it closed the link before it was registered: {reason} ({code})")
        connected()
        self._say(logging.INFO, f"connected to HQ at {self._config.hq_url} as {self._config.runner_id}")
        code, reason = await link.closed
        if not self._ending.is_set():
            self._say(logging.WARNING, f"the link to HQ was closed ({code} {reason}); dialling again")

    def _preset_infos(self) -> list[PresetInfo]:
        return [
            PresetInfo(name=one.name, label=one.preset.label, path=one.path, note=one.preset.note)
            for one in installed(self._presets)
        ]

    def _say(self, level: int, text: str) -> None:
        if text != self._said:
            self._said = text
            log.log(level, "%s", text)


def _refusal(url: str, status: int) -> str:
    if status == 401:
        return f"HQ at {url} refuses the token: set RUNNER_TOKEN to the one HQ was started with"
    return f"HQ at {url} refuses this runner (403): see its list of allowed host names"


async def run_daemon(config: RunnerConfig, directory: RunnerDirectory, presets: dict[str, Preset]) -> None:
    """Run a runner until it is told to end: SIGINT and SIGTERM leave the sessions, SIGUSR1 ends them.

    Raises:
        ConfigError: HQ refuses the token at the first try, or its URL is none.
        KeeperError: there is no keeper and none can be started.
    """
    open_files.allow_many()
    daemon = Daemon(config, directory, presets)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: daemon.end(sessions=False))
    loop.add_signal_handler(signal.SIGUSR1, lambda: daemon.end(sessions=True))
    await daemon.run()
