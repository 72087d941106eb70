"""Input queue: keyboard bytes on their way to a program, counted, bounded, applied once.

docs/protocol.md section 3.1. Bytes stay here until the runner says that they are in the PTY, so that they can
be sent again after a link broke; but never blindly: what has waited longer than 10 s by then is dropped,
because a command typed into a frozen screen should not run when nobody expects it any more.
"""

from collections import deque

from agentrelay.protocol.mux import MAX_DATA_BYTES

WINDOW_BYTES = 1 << 20
"""How much may be on its way to the runner: what the runner is willing to queue for one session."""

STALE_S = 10.0
MARK_EVERY_S = 0.25
"""How exactly the age of waiting input is known."""


class InputQueue:
    """The input of one session. Offsets count input bytes since the session started.

    Args:
        counted: False for a session of an earlier HQ, whose count only its runner knows, until `resume`.

    Attributes:
        taken: offset behind the last byte taken from a viewer.
        applied: offset before which bytes are in the PTY.
        sent: offset before which bytes have been sent on the current link.
    """

    def __init__(self, *, counted: bool = True) -> None:
        self._counted = counted
        self.taken = 0
        self.applied = 0
        self.sent = 0
        self._waiting = bytearray()  # the bytes [applied, taken)
        self._marks: deque[tuple[int, float]] = deque()  # (offset, when the bytes from it were taken)

    @property
    def full(self) -> bool:
        """Whether whoever types should wait."""
        return self.taken - self.applied >= WINDOW_BYTES

    def take(self, data: bytes | memoryview, now_s: float) -> None:
        """Queue input. One message may go past the bound; the next is up to the caller, who asks `full`."""
        if not self._marks or now_s - self._marks[-1][1] >= MARK_EVERY_S:
            self._marks.append((self.taken, now_s))
        self._waiting += data
        self.taken += len(data)

    def next_to_send(self) -> bytes | None:
        """Give the next bytes for one INPUT frame, or None while there are none or the window is used up."""
        if self.sent >= self.taken or self.sent - self.applied >= WINDOW_BYTES:
            return None
        start = self.sent - self.applied
        data = bytes(self._waiting[start : start + MAX_DATA_BYTES])
        self.sent += len(data)
        return data

    def receive_applied(self, offset: int) -> None:
        """Take the runner's word for how far the input is in the PTY; it cannot go back or past `sent`."""
        applied = min(offset, self.sent)
        if applied > self.applied:
            del self._waiting[: applied - self.applied]
            self.applied = applied
            while len(self._marks) > 1 and self._marks[1][0] <= applied:
                self._marks.popleft()

    def resume(self, applied: int, now_s: float) -> int:
        """Go on with a link that came back, whose runner has applied the input before `applied`.

        What still waits is numbered from `applied` on. Returns how many bytes were dropped because they had
        waited too long.
        """
        if self._counted:
            self.sent = self.taken
            self.receive_applied(applied)
        self._counted = True
        fresh_from, since_s = self.taken, now_s
        for offset, taken_s in reversed(self._marks):
            if now_s - taken_s > STALE_S:
                break
            fresh_from, since_s = max(offset, self.applied), taken_s
        dropped_bytes = fresh_from - self.applied
        del self._waiting[:dropped_bytes]
        shift = applied - fresh_from
        later = [(at + shift, taken_s) for at, taken_s in self._marks if at > fresh_from]
        self._marks = deque([(applied, since_s), *later] if self._waiting else ())
        self.applied = self.sent = applied
        self.taken = applied + len(self._waiting)
        return dropped_bytes
