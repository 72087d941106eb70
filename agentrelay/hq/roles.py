"""Roles: who is around a session, as the session sees them."""

from typing import Protocol

from agentrelay.fastpath import ByteRing
from agentrelay.hq.input_queue import InputQueue
from agentrelay.hq.log.keyframe import Keyframe
from agentrelay.protocol.ids import StreamId


class Follower(Protocol):
    """A viewer, as the session sees it."""

    viewer_id: str
    moved_s: float
    """When `position` last moved, or when there first was something to move over; monotonic seconds."""

    @property
    def position(self) -> int:
        """Offset of the first byte it has not taken."""

    def on_output(self) -> None:
        """New output is in the ring."""

    def on_gap(self, start: int, stop: int) -> None:
        """The bytes `[start, stop)` are lost; the ring goes on at `stop`."""

    def on_resized(self) -> None:
        """The PTY has another size."""

    def on_control(self) -> None:
        """Somebody else controls now, or nobody."""

    def on_ended(self) -> None:
        """No output follows any more."""

    def on_input_applied(self) -> None:
        """The input queue has moved."""

    def on_trouble(self, code: str, message: str) -> None:
        """Something the person should know."""


class Link(Protocol):
    """The runner's link, as the session sees it."""

    def send_input(self, stream: StreamId, queue: InputQueue) -> None:
        """Send what may be sent of a stream's input, as soon as the link takes it, in its turn."""

    def send_ack(self, stream: StreamId, acked: int, limit: int) -> None:
        """Send one ACK frame."""

    def send_resize(self, stream: StreamId, *, rows: int, cols: int) -> None:
        """Ask for another size of the PTY."""

    def send_signal(self, stream: StreamId, name: str) -> None:
        """Ask for a signal to the foreground process group."""

    def send_stop(self, stream: StreamId) -> None:
        """Ask for the end of the program."""


class Recorder(Protocol):
    """The session's output log, as the session sees it. Nothing here waits for the disk."""

    @property
    def logged(self) -> int:
        """Offset before which everything is in the log."""

    @property
    def base(self) -> int:
        """Offset of the oldest byte in the log."""

    def wake(self) -> None:
        """There is output behind `logged` in the ring."""

    def resized(self, *, rows: int, cols: int) -> None:
        """Record a size."""

    def took_input(self, viewer: str, data: bytes | memoryview) -> None:
        """Record that a viewer typed; what, only where that is switched on."""

    def gap(self, stop: int, ring: ByteRing) -> None:
        """Record that the bytes before `stop` are lost; output goes on there, in `ring`."""

    def ended(self, *, exit_code: int | None, signal: int | None) -> None:
        """Record the end."""

    async def read(self, start: int, max_bytes: int) -> tuple[int, bytes]:
        """Give `(offset, bytes)` from `start` or the first byte after it that is there; b"" at the end."""

    async def sizes(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Give the size in force at `start`, and its changes before `stop`: `(offset, rows, cols)`."""

    async def keyframe(self) -> Keyframe | None:
        """Give the newest keyframe."""

    async def keep(self, keyframe: Keyframe) -> None:
        """Keep a newer keyframe."""
