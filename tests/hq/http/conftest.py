"""An app without sockets, runners or a clock that moves by itself."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import UNSET
from starlette.applications import Starlette

from agentrelay.errors import NotRecorded, UnknownRunner, UnknownSession
from agentrelay.hq.auth import Auth
from agentrelay.hq.config import HqConfig
from agentrelay.hq.events import EventHub
from agentrelay.hq.http import make_app
from agentrelay.hq.http.ui import Ui
from agentrelay.hq.info import CellRun, CursorInfo, RunnerInfo, ScreenInfo, SessionInfo
from agentrelay.hq.metrics import Metrics
from agentrelay.hq.store import Store
from agentrelay.protocol.messages import Preset, StartSession

ADMIN = "admin-token-of-this-test"
RUNNER = "runner-token-of-this-test"
BASE = "http://localhost:8080"
PUBLIC = "https://relay.example.com"
SESSION_ID = "0" * 32
RUNNER_INFO = RunnerInfo(
    runner_id="box",
    hostname="box.local",
    os="linux",
    arch="x86_64",
    version="0.1.0",
    online=True,
    connected_at=2.5,
    last_seen_at=3.5,
    presets=[Preset(name="claude", label="Claude Code", path="/bin/claude")],
    sessions=1,
)


@dataclass
class FakeSession:
    info: SessionInfo
    output: bytes = b""
    base: int = 0
    error: Exception | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def describe(self) -> SessionInfo:
        return self.info

    def _called(self, *call: Any) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(call)

    def rename(self, name: str) -> None:
        self._called("rename", name)
        self.info = msgspec.structs.replace(self.info, name=name)

    def resize(self, *, rows: int, cols: int) -> None:
        self._called("resize", rows, cols)
        self.info = msgspec.structs.replace(self.info, rows=rows, cols=cols)

    def send_input(self, data: bytes) -> None:
        self._called("input", data)

    def send_signal(self, name: str) -> None:
        self._called("signal", name)

    async def read_output(self, start: int, max_bytes: int) -> tuple[int, bytes]:
        self._called("read", start, max_bytes)
        offset = max(start, self.base)
        return offset, self.output[offset - self.base :][:max_bytes]


def make_session(session_id: str = SESSION_ID, **changes: Any) -> FakeSession:
    info = SessionInfo(
        session_id=session_id,
        runner_id="box",
        name="bash",
        command=["/bin/bash"],
        preset=None,
        cwd="/home/x",
        rows=24,
        cols=80,
        state="running",
        pid=42,
        epoch="e1",
        created_at=1.5,
        ended_at=None,
        exit_code=None,
        signal=None,
        offset=10,
        base_offset=0,
        viewers=0,
        recording=True,
        title="",
    )
    return FakeSession(msgspec.structs.replace(info, **changes))


@dataclass
class FakeRunner:
    info: RunnerInfo

    def describe(self) -> RunnerInfo:
        return self.info


class FakeRegistry:
    def __init__(self) -> None:
        self.known_runners = {"box": RUNNER_INFO}
        self.known_sessions = {SESSION_ID: make_session()}
        self.started: list[tuple[str, StartSession]] = []
        self.error: BaseException | None = None

    @property
    def sessions(self) -> dict[str, FakeSession]:
        return self.known_sessions

    def describe_runners(self) -> list[RunnerInfo]:
        return list(self.known_runners.values())

    def count_runners(self) -> Counter[bool]:
        return Counter(runner.online for runner in self.describe_runners())

    def count_sessions(self) -> Counter[str]:
        return Counter(session.info.state for session in self.known_sessions.values())

    def count_viewers(self) -> int:
        return 0

    def describe_sessions(self) -> list[bytes]:
        return [msgspec.json.encode(session.describe()) for session in self.known_sessions.values()]

    def runner(self, runner_id: str) -> FakeRunner:
        if runner_id not in self.known_runners:
            raise UnknownRunner(f"there is no runner {runner_id!r}")
        return FakeRunner(self.known_runners[runner_id])

    def session(self, session_id: str) -> FakeSession:
        if session_id not in self.known_sessions:
            raise UnknownSession(f"there is no session {session_id}")
        return self.known_sessions[session_id]

    async def start_session(self, runner_id: str, wish: StartSession) -> FakeSession:
        self.runner(runner_id)
        if self.error is not None:
            raise self.error
        self.started.append((runner_id, wish))
        session = make_session("1" * 32, runner_id=runner_id, rows=wish.rows, cols=wish.cols)
        self.known_sessions["1" * 32] = session
        return session

    def export_session(self, session_id: str, version: int) -> Iterator[bytes]:
        session = self.session(session_id)
        if not session.info.recording:
            raise NotRecorded("the session was started without recording")
        return iter([b'{"version":%d}\n' % version, b'[0.0,"o","x"]\n'])

    def delete_session(self, session_id: str) -> str:
        if self.session(session_id).info.state == "ended":
            del self.known_sessions[session_id]
            return "deleted"
        return "stopping"


@dataclass
class FakeHq:
    config: HqConfig
    store: Store
    auth: Auth
    events: EventHub
    registry: FakeRegistry
    metrics: Metrics


async def render(session: FakeSession, *, cells: bool) -> ScreenInfo:
    if session.error is not None:
        raise session.error
    return ScreenInfo(
        rows=2,
        cols=5,
        cursor=CursorInfo(row=1, col=0, visible=True),
        title="t",
        text=["$ ls✓", ""],
        offset=10,
        alternate=False,
        cells=[[CellRun(text="$ ls✓", cols=5, fg=2)], []] if cells else UNSET,
    )


def make_config(**changes: Any) -> HqConfig:
    settings: dict[str, Any] = {
        "data_dir": Path("/nowhere"),
        "runner_token": RUNNER,
        "admin_token": ADMIN,
        "public_urls": [PUBLIC],
    }
    return HqConfig.checked(**(settings | changes))


def make_hq(config: HqConfig, store: Store) -> FakeHq:
    registry = FakeRegistry()
    auth = Auth.from_config(config, store.check_login)
    return FakeHq(config, store, auth, EventHub(), registry, Metrics(registry))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Make a database once: creating one syncs the disk many times."""
    path = tmp_path_factory.mktemp("empty") / "hq.db"

    async def create() -> None:
        await (await Store.open(path)).close()

    asyncio.run(create())
    return path.read_bytes()


@pytest.fixture
def database(tmp_path: Path, empty_database: bytes) -> Path:
    path = tmp_path / "hq.db"
    path.write_bytes(empty_database)
    return path


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    opened = await Store.open(database)
    yield opened
    await opened.close()


@pytest.fixture
def hq(store: Store) -> FakeHq:
    return make_hq(make_config(), store)


@pytest.fixture
def ui_dir(tmp_path: Path) -> Path:
    return tmp_path / "ui"


@pytest.fixture
def app(hq: FakeHq, ui_dir: Path) -> Starlette:
    return make_app(hq, render=render, ui=Ui(ui_dir))


def client_of(
    app: Starlette, headers: Mapping[str, str] | None = None, client: tuple[str, int] = ("127.0.0.1", 5)
) -> httpx.AsyncClient:
    """Give a client; with `raise_app_exceptions` what escapes the app fails the test."""
    transport = httpx.ASGITransport(app, client=client, raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers)


@pytest.fixture
async def nobody(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def admin(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, {"authorization": f"Bearer {ADMIN}"}) as client:
        yield client


@pytest.fixture
def session(hq: FakeHq) -> FakeSession:
    return hq.registry.known_sessions[SESSION_ID]


@pytest.fixture
def ended() -> FakeSession:
    return make_session("e" * 32, state="ended", ended_at=2.0, exit_code=0)


class Asgi:
    """Drives an app message by message, for what no HTTP client would send."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.received = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def request(
        self,
        method: str = "GET",
        path: str = "/health",
        headers: list[tuple[bytes, bytes]] | None = None,
        body: list[bytes] | None = None,
        query: bytes = b"",
        *,
        breaks_off: bool = False,
    ) -> "Asgi":
        chunks = list(body or [])
        self.received, self.status, self.body = 0, 0, b""

        async def receive() -> dict[str, Any]:
            self.received += 1
            if chunks:
                return {
                    "type": "http.request",
                    "body": chunks.pop(0),
                    "more_body": bool(chunks) or breaks_off,
                }
            return {"type": "http.request" if self.received == 1 else "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert not self.status, "answered twice"
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                self.body += message.get("body", b"")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode("utf-8", "replace"),
            "root_path": "",
            "query_string": query,
            "headers": [(b"host", b"localhost:8080")] if headers is None else headers,
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 8080),
        }
        await self.app(scope, receive, send)
        return self


@pytest.fixture
def asgi(app: Starlette) -> Asgi:
    return Asgi(app)


def problem_of(response: httpx.Response) -> dict[str, Any]:
    """Check that an answer is a problem document, and give it."""
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == response.status_code
    assert document["type"] == "about:blank"
    assert document["title"]
    assert document["detail"]
    assert document.get("code") != ""
    return document
