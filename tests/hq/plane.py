"""HQ's data plane on a port, a runner without programs, and a viewer that is nothing but a WebSocket."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agentrelay import fastpath
from agentrelay.errors import LogError
from agentrelay.hq.archive import Archive, LogRecorder
from agentrelay.hq.auth import Auth
from agentrelay.hq.events import EventHub
from agentrelay.hq.log.session_log import SessionLog
from agentrelay.hq.metrics import Metrics
from agentrelay.hq.registry import Registry
from agentrelay.hq.session import Session
from agentrelay.hq.sockets import Sockets
from agentrelay.hq.store import Store
from agentrelay.protocol import mux
from agentrelay.protocol.ids import SessionId
from agentrelay.protocol.messages import (
    Error,
    Exited,
    Forget,
    Held,
    HqMessage,
    Message,
    Register,
    Registered,
    Resumed,
    Start,
    Started,
    StartNotDone,
    StartSession,
    decode_from_hq,
    encode,
)
from agentrelay.runner.registration import shortened
from agentrelay.transport.dial import dial
from agentrelay.transport.endpoint import Endpoint
from agentrelay.transport.takeover import takeover

ADMIN = "admin-token-of-this-test"
RUNNER = "runner-token-of-this-test"
SECONDS = 15.0


async def _no_http(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def happens(condition: Callable[[], Any]) -> None:
    """Wait for something inside HQ that nobody outside is told of."""
    for _ in range(int(SECONDS / 0.001)):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it has not happened")


class Plane:
    """A running HQ without its HTTP side. Make one with `run_plane`."""

    def __init__(self, store: Store, archive: Archive) -> None:
        self.store = store
        self.archive = archive
        self.events = EventHub()
        self.registry = Registry(store=store, events=self.events, archive=archive)
        self.metrics = Metrics(self.registry)
        self.auth = Auth(
            runner_token=RUNNER, admin_token=ADMIN, no_login=False, check_login=store.check_login
        )
        self.sockets = Sockets(auth=self.auth, registry=self.registry, metrics=self.metrics)
        self.state = ServerState()
        self.port = 0

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def session(self, session_id: str) -> Session:
        return self.registry.sessions[SessionId(session_id)]

    @property
    def paused(self) -> list[Endpoint]:
        """The connections that are not read now."""
        connections: set[Any] = set(self.state.connections)
        return [
            connection
            for connection in connections
            if isinstance(connection, Endpoint) and connection._paused_reading
        ]

    async def logged(self, session_id: str) -> None:
        """Wait until everything of a session is in its log."""
        recorder = self.session(session_id).recorder
        assert isinstance(recorder, LogRecorder)
        assert recorder.recording is not None
        async with asyncio.timeout(SECONDS):
            await recorder.recording.flush()

    async def cut(self) -> None:
        """Cut every connection and see its end."""
        for connection in list(self.state.connections):
            connection.transport.abort()
        await happens(lambda: not self.state.connections)


@contextlib.asynccontextmanager
async def run_plane(path: Path) -> AsyncIterator[Plane]:
    """Run HQ's data plane on the data directory `path`."""
    store = await Store.open(path / "hq.db")
    archive = Archive(path / "sessions")
    archive.start()
    plane = Plane(store, archive)
    config = uvicorn.Config(
        _no_http,
        http=takeover(plane.sockets.route),
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    config.load()
    try:
        await plane.registry.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=plane.state, app_state={}
            ),
            "127.0.0.1",
            0,
        )
        plane.port = server.sockets[0].getsockname()[1]
        try:
            yield plane
        finally:
            server.close()
            await plane.cut()
            await server.wait_closed()
    finally:
        await plane.registry.close()
        await archive.close()
        await store.close()


class Disk:
    """A disk that answers when the test lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.fails = False
        append_output = SessionLog.append_output

        def append(log: SessionLog, *args: object, **kwargs: object) -> None:
            assert self.answers.wait(60)
            if self.fails:
                raise LogError("the disk is full")
            append_output(log, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(SessionLog, "append_output", append)


class Program:
    """A session as the runner holds it: every byte it ever printed, and what was typed into it."""

    def __init__(self, runner: "FakeRunner", asked: Start) -> None:
        self.session_id = asked.session_id
        self.epoch = "e1"
        self.rows, self.cols = asked.rows, asked.cols
        self.output = bytearray()
        self.base = 0
        self.typed = bytearray()
        self.reads = True
        self.status: tuple[int | None, int | None] | None = None
        self.stream: int | None = None
        self.sent = 0
        self.acked = 0
        self.limit = 0
        self.told_exit = False
        self._runner = runner

    def print(self, data: bytes) -> None:
        """Print; it is sent as far as the limit allows."""
        self.output += data
        self._runner.send_output(self)

    def exit(self, exit_code: int | None = 0, signal: int | None = None) -> None:
        """End; told when all output is sent."""
        self.status = (exit_code, signal)
        self._runner.send_output(self)

    def read_input(self) -> None:
        """Begin to read what was typed."""
        self.reads = True
        self._runner.tell_applied(self)

    def held(self) -> Held:
        return Held(
            session_id=self.session_id,
            epoch=self.epoch,
            pid=42,
            base=self.base,
            head=len(self.output),
            input=len(self.typed),
            rows=self.rows,
            cols=self.cols,
            command=["sh"],
            cwd="/",
        )


class FakeRunner:
    """A runner over a real link. It starts whatever it is asked for, unless told otherwise."""

    def __init__(self, plane: Plane, runner_id: str = "box") -> None:
        self.plane = plane
        self.runner_id = runner_id
        self.programs: dict[str, Program] = {}
        self.heard: list[HqMessage] = []
        self.closed: tuple[int, str] | None = None
        self.on_start: Callable[[Start], None] = self.start
        self.endpoint: Endpoint
        self._masks = fastpath.MaskSource()
        self._changed = asyncio.Event()

    # The link

    async def connect(self) -> Registered:
        """Dial, register and wait for the answer."""
        await self.dial()
        self.register()
        registered: Registered = await self.hear(Registered)
        return registered

    async def dial(self) -> None:
        self.closed = None
        self.heard.clear()
        for program in self.programs.values():
            program.stream = None
        self.endpoint = await dial(self.plane.url("/ws/runner"), token=RUNNER, handler=self)

    def register(self, **changes: Any) -> None:
        facts: dict[str, Any] = {
            "protocol": 1,
            "runner_id": self.runner_id,
            "version": "0.0.1",
            "hostname": "box.local",
            "os": "linux",
            "arch": "x86_64",
            "sessions": [program.held() for program in self.programs.values()],
        }
        self.say(Register(**facts | changes))

    async def start_program(self, **wish: Any) -> Program:
        """Let HQ start a session that nobody watches."""
        session = await self.plane.registry.start_session(self.runner_id, StartSession(**wish))
        return self.programs[session.session_id]

    async def disconnect(self) -> None:
        """Cut the link, and see that HQ has noticed."""
        link = self.plane.registry.runner(self.runner_id).link
        self.endpoint.abort()
        await happens(lambda: self.plane.registry.runner(self.runner_id).link is not link)

    def say(self, message: Message) -> None:
        self.endpoint.send_text(encode(message))

    def frame(self, kind: int, stream: int, data: bytes) -> None:
        self.endpoint.send_frame(fastpath.pack_frame(kind, stream, data, self._masks))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for what HQ says to fulfil a condition."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def hear(self, kind: type[Any], **fields: Any) -> Any:
        """Wait for a message of HQ of this kind, with these fields; it is taken off the list."""

        def matches(message: Message) -> bool:
            return isinstance(message, kind) and all(
                getattr(message, name) == value for name, value in fields.items()
            )

        await self.until(lambda: any(matches(message) for message in self.heard))
        found = next(message for message in self.heard if matches(message))
        self.heard.remove(found)
        return found

    async def round_trip(self) -> None:
        """Wait until HQ has taken all that was said, and all that HQ said before has come."""
        self.endpoint.send_text(b"{}")
        await self.hear(Error)

    async def until_closed(self) -> tuple[int, str]:
        await self.until(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed

    # Its programs

    def start(self, asked: Start) -> None:
        """Start what was asked for."""
        program = self.programs[asked.session_id] = Program(self, asked)
        program.stream, program.limit = asked.stream, asked.limit
        self.say(
            Started(
                session_id=asked.session_id,
                stream=asked.stream,
                epoch=program.epoch,
                pid=42,
                rows=asked.rows,
                cols=asked.cols,
                command=shortened(asked.command or ["/bin/sh"]),
                cwd=(asked.cwd or "/home")[:4096],
            )
        )

    def refuse(self, code: str, message: str) -> None:
        """Start nothing from now on."""

        def refuse(asked: Start) -> None:
            self.say(
                StartNotDone(session_id=asked.session_id, stream=asked.stream, code=code, message=message)
            )

        self.on_start = refuse

    def send_output(self, program: Program) -> None:
        """Send what may be sent."""
        while program.stream is not None and self.endpoint.writable:
            stop = min(len(program.output), program.limit, program.sent + mux.MAX_DATA_BYTES)
            if program.sent >= stop:
                break
            self.frame(mux.Kind.OUTPUT, program.stream, bytes(program.output[program.sent : stop]))
            program.sent = stop
        if (
            program.status is not None
            and program.stream is not None
            and program.sent == len(program.output)
            and not program.told_exit
        ):
            program.told_exit = True
            exit_code, signal = program.status
            self.say(Exited(stream=program.stream, offset=program.sent, exit_code=exit_code, signal=signal))

    def tell_applied(self, program: Program) -> None:
        if program.stream is not None and program.reads:
            self.frame(mux.Kind.INPUT_ACK, program.stream, mux.pack_offset(len(program.typed)))

    def _resume(self, program: Program, resumed: Resumed) -> None:
        assert program.base <= resumed.from_ <= len(program.output)
        assert resumed.input == len(program.typed)
        program.stream = resumed.stream
        program.sent, program.acked, program.limit = resumed.from_, resumed.acked, resumed.limit
        program.told_exit = False
        self.send_output(program)

    # What HQ says

    def on_text(self, text: bytes) -> None:
        message = decode_from_hq(text)
        assert message is not None
        self.heard.append(message)
        match message:
            case Start():
                self.on_start(message)
            case Registered():
                for resumed in message.sessions:
                    self._resume(self.programs[resumed.session_id], resumed)
            case Forget(session_id=session_id):
                del self.programs[session_id]
        self._changed.set()

    def on_binary(self, data: memoryview) -> None:
        frame = mux.unpack(data)
        program = next(
            (program for program in self.programs.values() if program.stream == frame.stream), None
        )
        if program is None:
            return
        if frame.kind == mux.Kind.ACK:
            program.acked, program.limit = mux.unpack_ack(frame.data)
            self.send_output(program)
        elif frame.kind == mux.Kind.INPUT:
            program.typed += frame.data
            self.tell_applied(program)
        self._changed.set()

    def on_text_too_big(self, n_bytes: int) -> None:
        raise AssertionError(f"HQ sent a control message of {n_bytes} bytes")

    def on_writable(self) -> None:
        for program in list(self.programs.values()):
            self.send_output(program)

    def on_closed(self, code: int, reason: str) -> None:
        self.closed = (code, reason)
        for program in self.programs.values():
            program.stream = None
        self._changed.set()


async def has(plane: Plane, program: Program) -> None:
    """Wait until HQ has all output."""
    await happens(lambda: plane.session(program.session_id).head == len(program.output))


class ViewerClient:
    """A viewer on a plain WebSocket, which keeps what it is shown by offset.

    Attributes:
        position: offset of the next output byte.
        shown: output bytes since `first`, with a gap as that many zeros.
        gaps: what was told to be lost.
        missed: what was asked for and is lost, before the first byte there is.
        snapshot: the last snapshot.
        answer: what HQ answered to the first message.
        frames: the size of every binary frame.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.first = 0
        self.position = 0
        self.shown = bytearray()
        self.gaps: list[tuple[int, int]] = []
        self.missed: tuple[int, int] | None = None
        self.snapshot = b""
        self.answer: dict[str, Any] = {}
        self.frames: list[int] = []
        self._snapshot_left = 0

    async def say(self, kind: str, **payload: Any) -> None:
        await self.connection.send(orjson.dumps({"type": kind, "payload": payload}).decode())

    async def type(self, data: bytes) -> None:
        await self.connection.send(data)

    async def step(self) -> tuple[str, dict[str, Any]] | None:
        """Take the next message; gives it if it is a control message."""
        async with asyncio.timeout(SECONDS):
            received = await self.connection.recv()
        if isinstance(received, bytes):
            self._take(received)
            return None
        message = orjson.loads(received)
        kind, payload = message["type"], message["payload"]
        self.messages.append((kind, payload))
        if kind == "session_started":
            self._begin(0)
        elif kind in ("attached", "resync"):
            replay = payload["replay"]
            if replay["kind"] == "log":
                self._begin(payload["offset"] - replay["bytes"])
            else:
                self._begin(payload["offset"])
                self.snapshot, self._snapshot_left = b"", replay["bytes"]
        elif kind == "gap" and payload["to"] == self.first == self.position:
            self.missed = payload["from"], payload["to"]
        elif kind == "gap":
            assert payload["from"] == self.position < payload["to"], "a gap is somewhere else"
            self.shown += bytes(payload["to"] - self.position)
            self.gaps.append((payload["from"], payload["to"]))
            self.position = payload["to"]
        return kind, payload

    def _begin(self, offset: int) -> None:
        self.first = self.position = offset
        self.shown = bytearray()
        self.gaps = []

    def _take(self, data: bytes) -> None:
        self.frames.append(len(data))
        if self._snapshot_left:
            assert len(data) <= self._snapshot_left
            self.snapshot += data
            self._snapshot_left -= len(data)
            return
        self.shown += data
        self.position += len(data)

    @property
    def output(self) -> bytes:
        """What was shown, which has to be without gaps."""
        assert self.gaps == []
        return bytes(self.shown)

    async def hear(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Take messages up to one of this kind with these fields."""
        while True:
            message = await self.step()
            if message is not None and message[0] == kind and fields.items() <= message[1].items():
                return message[1]

    async def read_to(self, position: int) -> None:
        """Take messages until everything before `position` is shown."""
        while self.position < position or self._snapshot_left:
            await self.step()

    async def until_closed(self) -> tuple[int, str]:
        """Take messages up to the end; gives how HQ closed."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.step()
        assert self.connection.close_code is not None
        return self.connection.close_code, self.connection.close_reason or ""


def small_socket(plane: Plane) -> socket.socket:
    """Connect a socket that takes little ahead of its reader."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    sock.connect(("127.0.0.1", plane.port))
    sock.setblocking(False)
    return sock


@contextlib.asynccontextmanager
async def viewing(
    plane: Plane, path: str, *, slow: bool = False, **options: Any
) -> AsyncIterator[ViewerClient]:
    """Open a viewer's WebSocket.

    Args:
        slow: read nothing ahead of what the test asks for.
    """
    if slow:
        options |= {"sock": small_socket(plane), "max_queue": 1}
    settings: dict[str, Any] = {
        "additional_headers": {"Authorization": f"Bearer {ADMIN}"},
        "compression": None,
        "max_size": None,
        "max_queue": None,
        "ping_interval": None,
        "close_timeout": 1,
        "proxy": None,
    }
    async with connect(plane.url(path), **settings | options) as connection:
        yield ViewerClient(connection)


@contextlib.asynccontextmanager
async def attached(
    plane: Plane, session_id: str, *, slow: bool = False, from_: int | None = None, **wish: Any
) -> AsyncIterator[ViewerClient]:
    """Attach to a session and hear the answer."""
    async with viewing(plane, f"/ws/session/{session_id}", slow=slow) as viewer:
        if from_ is not None:
            wish["from"] = from_
        await viewer.say("attach", **wish)
        viewer.answer = await viewer.hear("attached")
        yield viewer


@contextlib.asynccontextmanager
async def started(
    plane: Plane, runner: FakeRunner, *, slow: bool = False, **wish: Any
) -> AsyncIterator[tuple[ViewerClient, Program]]:
    """Start a session as a viewer; gives the viewer and the program."""
    async with viewing(plane, f"/ws/terminal/{runner.runner_id}", slow=slow) as viewer:
        await viewer.say("start_session", **wish)
        viewer.answer = await viewer.hear("session_started")
        yield viewer, runner.programs[viewer.answer["session_id"]]
