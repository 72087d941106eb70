"""Every exception AgentRelay raises on purpose, in one tree.

The tree says whose fault it was:

- `ConfigError`: of the person who started the process; shown as one line, without a traceback.
- `ProtocolError`: of the peer; it is told, and only its own connection suffers.
- `RequestError` and below: of the request; turned into a problem document or an `error` message.
- `KeeperError`, `LogError`: of this machine; the affected session is told.

Anything else that escapes is a bug.
"""


class AgentRelayError(Exception):
    """Root of the tree. `str()` of every instance is a sentence for people."""


class ConfigError(AgentRelayError):
    """A flag, variable or file is missing or wrong; the message says what to do."""


class ProtocolError(AgentRelayError):
    """The peer broke a rule of docs/protocol.md.

    Attributes:
        code: one of the error codes of docs/protocol.md section 2.6.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RequestError(AgentRelayError):
    """A well-formed request that cannot be carried out.

    Attributes:
        code: one of the error codes of docs/protocol.md section 2.6.
    """

    code = "internal"


class UnknownRunner(RequestError):
    """No runner of this id has ever registered."""

    code = "unknown_runner"


class UnknownSession(RequestError):
    """There is no session of this id."""

    code = "unknown_session"


class RunnerAway(RequestError):
    """The runner is known but has no link at the moment."""

    code = "runner_away"


class SessionOver(RequestError):
    """The session's program has ended, so it takes no input, size or signal."""

    code = "session_over"


class LimitReached(RequestError):
    """A configured or built-in limit would be passed."""

    code = "limit_reached"


class NotRecorded(RequestError):
    """The session was started without recording, so there is no log of it."""

    code = "not_recorded"


class NotInControl(RequestError):
    """Another viewer controls the session."""

    code = "not_in_control"


class StoreFailed(RequestError):
    """HQ's database cannot be written or read now: a full disk, nearly always."""

    code = "storage_failed"


class StartFailed(RequestError):
    """The runner could not start the program.

    Attributes:
        code: why: `command_not_found`, `cwd_not_found`, `unknown_preset`, `start_failed`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class KeeperError(AgentRelayError):
    """The keeper cannot be started, reached or understood."""


class LogError(AgentRelayError):
    """A session's output log cannot be read or written."""
