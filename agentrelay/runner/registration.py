"""What a runner says of itself and of what it holds: `register` (docs/protocol.md section 3.2)."""

import os
from collections.abc import Collection, Sequence
from typing import NamedTuple

import agentrelay
from agentrelay.protocol.messages import MAX_LINK_TEXT_BYTES, Held, Preset, Register, encode
from agentrelay.runner.pty import PtySession

PROTOCOL = 1

_COMMAND_CHARS = (2000, 200, 0)
"""How much of a command is told (an agent's prompt may be one argument), and how much where many are."""


class Identity(NamedTuple):
    """As whom a runner registers.

    Attributes:
        runner_id: what it is called.
        instance: which of those that are called so, in case somebody gives one name to two.
    """

    runner_id: str
    instance: str


def registration(identity: Identity, presets: Sequence[Preset], sessions: Collection[PtySession]) -> bytes:
    """Give the text of `register`; it fits into a message, if need be without the commands."""
    machine = os.uname()
    for command_chars in _COMMAND_CHARS:
        text = encode(
            Register(
                protocol=PROTOCOL,
                runner_id=identity.runner_id,
                instance=identity.instance,
                version=agentrelay.__version__,
                hostname=machine.nodename,
                os=machine.sysname.lower(),
                arch=machine.machine,
                presets=list(presets),
                sessions=[_held(session, command_chars) for session in sessions],
            )
        )
        if len(text) <= MAX_LINK_TEXT_BYTES:
            break
    return text


def _held(session: PtySession, command_chars: int) -> Held:
    facts = session.facts
    rows, cols = session.size
    return Held(
        session_id=facts.session_id,
        epoch=facts.epoch,
        pid=facts.pid,
        base=session.ring.base,
        head=session.ring.head,
        input=session.input_applied,
        # A program may have given its terminal any size.
        rows=min(max(rows, 1), 1000),
        cols=min(max(cols, 1), 1000),
        command=shortened(facts.command, command_chars),
        cwd=plain(facts.cwd),
    )


def shortened(command: list[str], most_chars: int = _COMMAND_CHARS[0]) -> list[str]:
    """Give a command for people to read: whole if it is short enough."""
    told: list[str] = []
    for part in command:
        if most_chars <= 0:
            break
        told.append(plain(part if len(part) <= most_chars else f"{part[:most_chars]}…"))
        most_chars -= len(part) + 1
    return told


def plain(text: str) -> str:
    """Make text of a file name that is not UTF-8."""
    return os.fsencode(text).decode(errors="replace")
