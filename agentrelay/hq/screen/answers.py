"""Which answers to a program's queries HQ gives while no viewer controls the session.

libghostty-vt answers for a terminal of its own kind. In the end xterm.js will show the program, so it is told
what xterm.js would tell; everything else is dropped, and with it every answer that could carry text of the
program's choice into its own input.
"""

import re
from collections.abc import Iterable
from typing import Final

MAX_ANSWER_BYTES: Final = 4096
"""For one piece of output: a program that asks endlessly does not fill its own input."""

# DECRQM: the modes that xterm.js knows; another one is "not recognized".
_ANSI_MODES: Final = frozenset({4, 20})
_PRIVATE_MODES: Final = frozenset(
    {1, 6, 7, 9, 12, 25, 45, 47, 66, 1000, 1002, 1003, 1004, 1006, 1016, 1047, 1048, 1049, 2004, 2026}
)
_MODE_REPORT = re.compile(rb"\x1b\[(\??)(\d{1,5});(\d)\$y")
_FIXED: Final = (
    (re.compile(rb"\x1b\[\?[\d;]+c"), b"\x1b[?1;2c"),  # DA1: a VT100 with the advanced video option
    (re.compile(rb"\x1b\[>[\d;]+c"), b"\x1b[>0;276;0c"),  # DA2
    (re.compile(rb"\x1bP>\|[^\x1b]*\x1b\\"), b"\x1bP>|AgentRelay\x1b\\"),  # XTVERSION
)
_AS_THEY_ARE: Final = (
    re.compile(rb"\x1b\[0n"),  # DSR: ready
    re.compile(rb"\x1b\[\??\d{1,4};\d{1,4}(;1)?R"),  # CPR, DECXCPR
    re.compile(rb"\x1b\](4;\d{1,3}|1[012]);rgb:[\da-f]{1,4}/[\da-f]{1,4}/[\da-f]{1,4}(\x07|\x1b\\)"),
    re.compile(rb"\x1bP[01]\$r[\d;:]{0,64}( q|[mr]|\"[pq])?\x1b\\"),  # DECRQSS
)


def safe_answers(replies: Iterable[bytes]) -> bytes:
    """Give what the program may be told, at most 4 KiB, where libghostty-vt would say `replies`."""
    out = b""
    for reply in replies:
        answer = safe_answer(reply)
        if len(out) + len(answer) > MAX_ANSWER_BYTES:
            break
        out += answer
    return out


def safe_answer(reply: bytes) -> bytes:
    """Give what the program may be told where libghostty-vt would say `reply`; empty for nothing."""
    for pattern, answer in _FIXED:
        if pattern.fullmatch(reply):
            return answer
    if any(pattern.fullmatch(reply) for pattern in _AS_THEY_ARE):
        return reply
    if match := _MODE_REPORT.fullmatch(reply):
        known = _PRIVATE_MODES if match[1] else _ANSI_MODES
        return reply if int(match[2]) in known else b"\x1b[%s%s;0$y" % (match[1], match[2])
    return b""
