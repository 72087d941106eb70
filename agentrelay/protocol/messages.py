"""Control messages: the JSON text frames of both WebSockets as typed structs.

docs/protocol.md sections 2 and 3. A message is `{"type": ..., "payload": {...}}`. `encode` gives the bytes
of one; each `decode_*` accepts what one direction may carry, gives None for a type it does not know (so that
newer peers can say more), and raises `ProtocolError` for everything that is not a message.
"""

import signal
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType

from agentrelay.errors import ProtocolError

MAX_TEXT_BYTES = 65_536
"""Largest control message: enough for a command with a large environment, small enough to parse at once."""

MAX_LINK_TEXT_BYTES = 1 << 20
"""Largest control message on a link, where `register` and `registered` name every session: about 4,000."""

Rows = Annotated[int, Meta(ge=1, le=1000)]
Cols = Annotated[int, Meta(ge=1, le=1000)]
Offset = Annotated[int, Meta(ge=0, le=2**62)]
"""An offset that a window can be added to without leaving the 63 bits that rings and files count in."""
Stream = Annotated[int, Meta(ge=0, le=2**32 - 1)]
SystemNumber = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""A pid, an exit code or the number of a signal."""
HeldId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
"""An id a runner gives back: HQ makes file names and headers of it."""
Said = Annotated[str, Meta(max_length=256)]
"""What a runner says of itself, for people."""
MAX_TOLD_CHARS = 4096
Told = Annotated[str, Meta(max_length=MAX_TOLD_CHARS)]
"""A path, or what is told of a command."""
Text = Annotated[str, Meta(pattern=r"\A[^\x00]*\Z")]
"""Text that reaches the operating system, which ends a string at NUL."""
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
EnvName = Annotated[str, Meta(min_length=1, pattern=r"\A[^\x00=]*\Z")]
Command = Annotated[list[Text], Meta(min_length=1)]
ViewerName = Annotated[str, Meta(min_length=1, max_length=64)]
SignalName = Annotated[str, Meta(min_length=1, max_length=16, pattern=r"\A[A-Za-z0-9+]*\Z")]


class Message(Struct, kw_only=True):
    """Anything that can be said; the subclass gives the `type` it is said under."""

    type: ClassVar[str]


# --- viewer to HQ ---------------------------------------------------------------------------------


class StartSession(Message):
    """Start a program on a PTY; the first message on `/ws/terminal/{runner_id}`."""

    type = "start_session"
    command: Command | None = None
    preset: Name | None = None
    cwd: Text | None = None
    env: dict[EnvName, Text] = {}
    rows: Rows = 24
    cols: Cols = 80
    name: Name | None = None
    session_id: Annotated[str, Meta(max_length=1000)] | None = None
    recording: bool = True
    viewer: ViewerName | None = None


class Attach(Message, rename={"from_": "from"}):
    """Attach to a session; the first message on `/ws/session/{session_id}`."""

    type = "attach"
    from_: Offset | None = None
    epoch: str | None = None
    rows: Rows | None = None
    cols: Cols | None = None
    viewer: ViewerName | None = None


class Resize(Message):
    """Set the size of the PTY."""

    type = "resize"
    rows: Rows
    cols: Cols


class Ack(Message):
    """Everything before `offset` has been shown."""

    type = "ack"
    offset: Offset


class TakeControl(Message):
    """Become the viewer whose input and size count."""

    type = "take_control"


SIGNALS = {name.removeprefix("SIG") for name in signal.Signals.__members__} | {"INFO", "EMT"}
"""Those of this machine and the two that only BSD and macOS have: the runner may be one of them."""


class Signal(Message):
    """Send a signal to the foreground process group."""

    type = "signal"
    name: SignalName

    @property
    def is_known(self) -> bool:
        """Whether there is such a signal."""
        return self.name.upper().removeprefix("SIG") in SIGNALS


class Ping(Message):
    """Ask for a `pong`: a web page sees nothing of the WebSocket's own pings."""

    type = "ping"


# --- HQ to viewer ---------------------------------------------------------------------------------


class Replay(Struct, frozen=True, kw_only=True):
    """What follows an `attached`: `bytes` bytes of the log, or of a rendered screen."""

    kind: str
    bytes: int


class SessionStarted(Message):
    """Answer to `start_session`; output begins at offset 0."""

    type = "session_started"
    session_id: str
    runner_id: str
    epoch: str
    pid: int
    rows: int
    cols: int
    viewer: str
    ref: str | UnsetType = UNSET


class Attached(Message):
    """Answer to `attach`; live output follows the replay at `offset`."""

    type = "attached"
    session_id: str
    epoch: str
    offset: int
    rows: int
    cols: int
    control: bool
    viewer: str
    input: int | None
    recording: bool
    replay: Replay


class Resync(Attached):
    """Reset the terminal, then as after `attached`."""

    type = "resync"


class Resized(Message):
    """The PTY has this size from here on."""

    type = "resized"
    rows: int
    cols: int


class Control(Message):
    """Who controls now."""

    type = "control"
    viewer: str | None
    you: bool


class ViewerGap(Message, rename={"from_": "from"}):
    """The bytes from `from_` up to `to` are lost."""

    type = "gap"
    from_: int
    to: int


class InputAck(Message):
    """Input bytes taken from this viewer so far."""

    type = "input_ack"
    offset: int


class Pong(Message):
    """Answer to `ping`."""

    type = "pong"


class SessionEnded(Message):
    """Said after the last output byte."""

    type = "session_ended"
    session_id: str
    exit_code: int | None
    signal: int | None


class Error(Message):
    """Something asked for was not done; either direction of the link, HQ to viewer."""

    type = "error"
    code: str
    message: str


# --- runner to HQ ---------------------------------------------------------------------------------


class Preset(Struct, frozen=True, kw_only=True):
    """A preset whose program the runner found."""

    name: Said
    label: Said
    path: Told
    note: Told = ""


class Held(Struct, frozen=True, kw_only=True):
    """A session the runner holds: it can send `[base, head)` and has applied `input` bytes of input."""

    session_id: HeldId
    epoch: HeldId
    pid: SystemNumber
    base: Offset
    head: Offset
    input: Offset
    rows: Rows
    cols: Cols
    command: list[Told]
    cwd: Told

    def __post_init__(self) -> None:
        """Refuse what nobody can hold (msgspec calls this for every message that arrives)."""
        if self.base > self.head:
            raise ValueError(f"a session held from {self.base} to {self.head}")
        _check_told(self.command)


class Register(Message):
    """First message of a link."""

    type = "register"
    protocol: int
    runner_id: str
    version: Said
    hostname: Said
    os: Said
    arch: Said
    instance: Said = ""
    presets: Annotated[list[Preset], Meta(max_length=100)] = []
    sessions: list[Held] = []

    def __post_init__(self) -> None:
        """Refuse two sessions of one id: only one stream can go on."""
        if len({held.session_id for held in self.sessions}) < len(self.sessions):
            raise ValueError("one session is held twice")


class Started(Message):
    """A program runs; its output begins at offset 0 of `stream`."""

    type = "started"
    session_id: str
    stream: Stream
    epoch: HeldId
    pid: SystemNumber
    rows: Rows
    cols: Cols
    command: list[Told]
    cwd: Told

    def __post_init__(self) -> None:
        """Refuse what no runner tells."""
        _check_told(self.command)


def _check_told(command: list[str]) -> None:
    """Refuse a command that is longer than any a runner tells: HQ keeps it as long as the session.

    Raises:
        ValueError: it is.
    """
    if len(command) + sum(map(len, command)) > MAX_TOLD_CHARS:
        raise ValueError(f"a command of more than {MAX_TOLD_CHARS} characters is to be shortened")


class StartNotDone(Message):
    """A program could not be started, and why."""

    type = "start_failed"
    session_id: str
    stream: Stream
    code: str
    message: str


class LinkGap(Message, rename={"from_": "from"}):
    """The next OUTPUT byte of `stream` is at `to`; those from `from_` are lost."""

    type = "gap"
    stream: Stream
    from_: Offset
    to: Offset


class Exited(Message):
    """The program has exited, and all `offset` bytes of its output have been sent."""

    type = "exited"
    stream: Stream
    offset: Offset
    exit_code: SystemNumber | None
    signal: SystemNumber | None


# --- HQ to runner ---------------------------------------------------------------------------------


class Resumed(Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """How a held session goes on: send from `from_`, before `limit`; input goes on at `input`."""

    session_id: str
    stream: Stream
    from_: Offset
    acked: Offset
    limit: Offset
    input: Offset


class Registered(Message):
    """Answer to `register`. Held sessions that are not listed are to be ended and forgotten."""

    type = "registered"
    runner_id: str
    hq_version: str
    sessions: list[Resumed] = []


class Start(Message):
    """Start a program; without `command` and `preset` the user's login shell."""

    type = "start"
    session_id: str
    stream: Stream
    limit: Offset
    command: Command | None = None
    preset: Name | None = None
    cwd: Text | None = None
    env: dict[EnvName, Text] = {}
    rows: Rows = 24
    cols: Cols = 80


class StreamResize(Message):
    """Set the size of a stream's PTY."""

    type = "resize"
    stream: Stream
    rows: Rows
    cols: Cols


class StreamSignal(Message):
    """Send a signal to the foreground process group of a stream's PTY."""

    type = "signal"
    stream: Stream
    name: SignalName


class Stop(Message):
    """End the program: SIGHUP and SIGTERM to the process group, SIGKILL after 5 s."""

    type = "stop"
    stream: Stream


class Forget(Message):
    """HQ has every byte and the exit status of this session."""

    type = "forget"
    session_id: str


ViewerMessage = StartSession | Attach | Resize | Ack | TakeControl | Signal | Ping
ViewerEvent = (
    SessionStarted
    | Attached
    | Resync
    | Resized
    | Control
    | ViewerGap
    | InputAck
    | Pong
    | SessionEnded
    | Error
)
RunnerMessage = Register | Started | StartNotDone | LinkGap | Exited | Error
HqMessage = Registered | Start | StreamResize | StreamSignal | Stop | Forget | Error

_Table = Mapping[str, type[Message]]


def _table(*messages: type[Message]) -> _Table:
    return {message.type: message for message in messages}


_FROM_VIEWER = _table(StartSession, Attach, Resize, Ack, TakeControl, Signal, Ping)
_FROM_RUNNER = _table(Register, Started, StartNotDone, LinkGap, Exited, Error)
_FROM_HQ = _table(Registered, Start, StreamResize, StreamSignal, Stop, Forget, Error)
_TO_VIEWER = _table(
    SessionStarted, Attached, Resync, Resized, Control, ViewerGap, InputAck, Pong, SessionEnded, Error
)


def encode(message: Message) -> bytes:
    """Give the UTF-8 JSON text of a message."""
    return orjson.dumps({"type": message.type, "payload": msgspec.to_builtins(message)})


def _decode(text: bytes | memoryview, table: _Table, most_bytes: int = MAX_TEXT_BYTES) -> Any:
    if len(text) > most_bytes:
        most = f"a control message has at most {most_bytes} bytes"
        raise ProtocolError("too_large", f"{most}, not {len(text)}")
    try:
        envelope = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ProtocolError("bad_message", f"a control message is JSON, and this is not: {error}") from None
    if not isinstance(envelope, dict):
        raise ProtocolError("bad_message", 'a control message is an object {"type": ..., "payload": {...}}')
    kind = envelope.get("type")
    if not isinstance(kind, str):
        raise ProtocolError("bad_message", 'a control message needs "type", a string')
    message_type = table.get(kind)
    if message_type is None:
        return None
    try:
        return msgspec.convert(envelope.get("payload"), message_type)
    except msgspec.ValidationError as error:
        raise ProtocolError("bad_message", f"payload of {kind}: {error}") from None


def decode_from_viewer(text: bytes | memoryview) -> ViewerMessage | None:
    """Read what a viewer said; None for an unknown type.

    Raises:
        ProtocolError: it is no control message, or one with a wrong payload; the message says what is wrong.
    """
    message: ViewerMessage | None = _decode(text, _FROM_VIEWER)
    return message


def decode_from_runner(text: bytes | memoryview) -> RunnerMessage | None:
    """Read what a runner said; None for an unknown type. Raises as `decode_from_viewer`."""
    message: RunnerMessage | None = _decode(text, _FROM_RUNNER, MAX_LINK_TEXT_BYTES)
    return message


def decode_from_hq(text: bytes | memoryview) -> HqMessage | None:
    """Read what HQ said to a runner; None for an unknown type. Raises as `decode_from_viewer`."""
    message: HqMessage | None = _decode(text, _FROM_HQ, MAX_LINK_TEXT_BYTES)
    return message


def decode_to_viewer(text: bytes | memoryview) -> ViewerEvent | None:
    """Read what HQ said to a viewer, for viewers written in Python. Raises as `decode_from_viewer`."""
    message: ViewerEvent | None = _decode(text, _TO_VIEWER)
    return message
