"""What the HTTP side needs of the rest of HQ, and nothing more.

Protocols, so that the data plane does not know HTTP, HTTP does not import the data plane, and tests need
neither sockets nor runners. `agentrelay.hq.server.Hq` is the real one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Literal, Protocol

from agentrelay.hq.auth import Auth
from agentrelay.hq.config import HqConfig
from agentrelay.hq.events import EventHub
from agentrelay.hq.info import RunnerInfo, ScreenInfo, SessionInfo
from agentrelay.hq.metrics import Metrics
from agentrelay.hq.store import Store
from agentrelay.protocol.messages import StartSession


class RunnerPart(Protocol):
    """A runner."""

    def describe(self) -> RunnerInfo:
        """Give what the outside may know."""


class SessionPart(Protocol):
    """A session; what cannot be done raises a `RequestError`."""

    def describe(self) -> SessionInfo:
        """Give what the outside may know."""

    def rename(self, name: str) -> None:
        """Give it another name."""

    def resize(self, *, rows: int, cols: int) -> None:
        """Set the size of its PTY."""

    def send_input(self, data: bytes) -> None:
        """Type `data`."""

    def send_signal(self, name: str) -> None:
        """Send a signal to the foreground process group."""

    async def read_output(self, start: int, max_bytes: int) -> tuple[int, bytes]:
        """Give `(offset, bytes)` from `start` or the oldest byte after it; no bytes at the end."""


class RegistryPart(Protocol):
    """All runners and sessions."""

    @property
    def sessions(self) -> Sized:
        """Every known session; here only to be counted."""

    def describe_runners(self) -> Iterable[RunnerInfo]:
        """Give every known runner."""

    def describe_sessions(self) -> Iterable[bytes]:
        """Give the `SessionInfo` of each session as JSON, oldest first; they may come and go meanwhile."""

    def count_runners(self) -> Counter[bool]:
        """Count the runners by whether they are online."""

    def runner(self, runner_id: str) -> RunnerPart:
        """Give a runner; raises `UnknownRunner`."""

    def session(self, session_id: str) -> SessionPart:
        """Give a session; raises `UnknownSession`."""

    async def start_session(self, runner_id: str, wish: StartSession) -> SessionPart:
        """Start a session and wait until its program runs; raises a `RequestError`."""

    def export_session(self, session_id: str, version: Literal[2, 3]) -> Iterator[bytes]:
        """Give a session's recording as an asciicast; raises `UnknownSession`, `NotRecorded`."""

    def delete_session(self, session_id: str) -> str:
        """End a session ("stopping") or remove an ended one ("deleted")."""


class HqParts(Protocol):
    """One HQ."""

    @property
    def config(self) -> HqConfig:
        """What it was started with."""

    @property
    def store(self) -> Store:
        """Where logins are kept."""

    @property
    def auth(self) -> Auth:
        """Who may do what."""

    @property
    def events(self) -> EventHub:
        """What happens."""

    @property
    def registry(self) -> RegistryPart:
        """Its runners and sessions."""

    @property
    def metrics(self) -> Metrics:
        """How much of everything."""


class Render(Protocol):
    """Gives the screen of a session; may raise `LogError`."""

    async def __call__(self, session: Any, /, *, cells: bool) -> ScreenInfo:
        """Render a session as it is now."""
