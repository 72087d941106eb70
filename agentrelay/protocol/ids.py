"""The identifiers that cross the wire, each a type of its own so that they cannot be mixed up."""

import re
import secrets
from typing import NewType

RunnerId = NewType("RunnerId", str)
SessionId = NewType("SessionId", str)
Epoch = NewType("Epoch", str)
StreamId = NewType("StreamId", int)

_RUNNER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def new_session_id() -> SessionId:
    """Make a session id: 128 random bits as 32 hex digits, so that it cannot be guessed."""
    return SessionId(secrets.token_hex(16))


def new_epoch() -> Epoch:
    """Make an epoch: 64 random bits as 16 hex digits; it only has to differ between lives of one session."""
    return Epoch(secrets.token_hex(8))


def is_runner_id(text: str) -> bool:
    """Tell whether `text` may name a runner (docs/protocol.md section 3.2)."""
    return _RUNNER_ID.fullmatch(text) is not None
