"""Titles: what programs call their windows, so that a list of sessions tells what each is about.

Nobody renders a session for that: its newest output is searched for the sequence that sets a title, at most
once a second. Of a flood only the last of it is looked at.
"""

import re
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from agentrelay.hq.session import Session

EVERY_S: Final = 1.0
LOOK_BYTES: Final = 16 << 10
TITLE_BYTES: Final = 1024
TITLE_CHARS: Final = 200

_SET_TITLE = re.compile(rb"\x1b\][02];([^\x00-\x1f\x7f]{0,%d})(?:\x07|\x1b\\)" % TITLE_BYTES)
"""OSC 0 and OSC 2, ended by BEL or ST."""


class Titles:
    """The titles of all sessions of an HQ.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked: WeakKeyDictionary[Session, tuple[int, float]] = WeakKeyDictionary()  # up to where, when

    def look_at(self, session: Session) -> None:
        """See whether the program of a session has set another title."""
        now_s = self._clock()
        offset, looked_s = self._looked.get(session, (0, now_s - EVERY_S))
        if session.ring is None or session.head == offset or now_s - looked_s < EVERY_S:
            return
        self._looked[session] = session.head, now_s
        # A sequence may have begun before what was looked at last.
        start = max(offset - TITLE_BYTES, session.head - LOOK_BYTES, session.ring.base)
        with session.ring.view(start, session.head) as output:
            titles = [bytes(found[1]) for found in _SET_TITLE.finditer(output)]
        if titles:
            session.retitle(titles[-1].decode(errors="replace")[:TITLE_CHARS])
