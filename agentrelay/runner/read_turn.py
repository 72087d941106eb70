"""Read turn: how much of one PTY is read before all others have their turn, and how soon it is read again.

A long turn is cheap: it fills a whole frame of the link. Where many sessions have much to print, each has its
share of what one round over all of them reads. While somebody types into another session, turns are short and
have breaks: an echo that becomes readable meanwhile does not wait for what another program prints, neither
here nor in HQ, which takes what comes as it was sent, nor for a processor, of which a flood would otherwise
leave nothing.
"""

from agentrelay.fastpath import MAX_LINK_PAYLOAD_BYTES, MUX_HEADER_BYTES

LONG_BYTES = MAX_LINK_PAYLOAD_BYTES - MUX_HEADER_BYTES
"""What one frame carries."""

ROUND_BYTES = 1 << 19
"""What one round over all sessions reads, about; meanwhile the loop does nothing else. From 128 sessions on
each has the least share, and rounds are longer."""

PIECE_BYTES = 4096
"""What the kernel gives of a PTY at once, and the least that a session's turn has."""

SHORT_BYTES = 16_384
"""About 0.1 ms of a flood."""

BREAK_US = 1_000
"""The resolution of libuv's timers. With it a flood has up to 16 MB/s, more than any terminal shows."""

ECHO_BYTES = PIECE_BYTES - 1
"""Who types a key waits for less than this; more is what he has asked for, and stands in line."""

TYPING_US = 1_000_000
"""Who has typed a key waits for its echo, and will type another."""


class ReadTurn:
    """The turns of all sessions of a runner. Times are microseconds of any monotonic clock.

    Whose keys they are does not matter for long turns: what a session prints is what it was asked for.
    """

    def __init__(self) -> None:
        self._typist: object = None
        self._until_us = 0  # of who typed last
        self._echoes = False  # what came since is small
        self._others_until_us = 0  # of whoever typed before
        self._round: set[object] = set()  # who has had a turn since somebody had a second one
        self._share_bytes = LONG_BYTES

    def typed(self, session: object, now_us: int) -> None:
        """Learn that somebody types into `session`."""
        if session is not self._typist:
            self._typist = session
            self._others_until_us = self._until_us
        self._until_us = now_us + TYPING_US
        self._echoes = True

    def goes_first(self, session: object, now_us: int) -> bool:
        """Tell whether `session` is read before all others: somebody who types waits for what it prints."""
        return session is self._typist and self._echoes and now_us < self._until_us

    def bytes_at(self, session: object, now_us: int) -> int:
        """Give the most that is read of `session` in the turn that it has now."""
        if session in self._round:
            self._share_bytes = _share(len(self._round))
            self._round.clear()
        self._round.add(session)
        if len(self._round) * self._share_bytes > ROUND_BYTES:  # more have come than in the round before
            self._share_bytes = _share(len(self._round))
        return min(SHORT_BYTES, self._share_bytes) if self._is_short(session, now_us) else self._share_bytes

    def break_after(self, session: object, now_us: int, n_bytes: int) -> int:
        """Give the microseconds to leave the PTY of `session` unread after a turn of `n_bytes`."""
        if session is self._typist and n_bytes >= ECHO_BYTES:
            self._echoes = False
        most_bytes = min(SHORT_BYTES, self._share_bytes)
        return BREAK_US if n_bytes >= most_bytes and self._is_short(session, now_us) else 0

    def _is_short(self, session: object, now_us: int) -> bool:
        return now_us < (self._others_until_us if session is self._typist else self._until_us)


def _share(n_sessions: int) -> int:
    share_bytes = ROUND_BYTES // n_sessions // PIECE_BYTES * PIECE_BYTES
    return min(max(share_bytes, PIECE_BYTES), LONG_BYTES)
