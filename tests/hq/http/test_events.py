import asyncio
import json
from typing import Any

from starlette.applications import Starlette

from tests.hq.http.conftest import ADMIN, SESSION_ID, FakeHq, make_session


class Stream:
    """A request for the event stream that stays open until `leave`."""

    def __init__(self, app: Starlette, **headers: str) -> None:
        self.chunks: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.left = asyncio.Event()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/api/events",
            "raw_path": b"/api/events",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"localhost")]
            + [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 8080),
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, str]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.chunks.put_nowait(message)

    async def start(self) -> dict[str, str]:
        message = await self.chunks.get()
        assert message["status"] == 200
        return {name.decode(): value.decode() for name, value in message["headers"]}

    async def next(self) -> list[tuple[str, str, Any]]:
        text = (await self.chunks.get())["body"].decode()
        events = text.strip().split("\n\n")
        blocks = [dict(line.split(": ", 1) for line in event.split("\n")) for event in events]
        return [(block["id"], block["event"], json.loads(block["data"])) for block in blocks]

    async def leave(self) -> None:
        self.left.set()
        await self.task


async def test_the_stream_begins_with_everything_and_goes_on(app: Starlette, hq: FakeHq) -> None:
    stream = Stream(app, authorization=f"Bearer {ADMIN}")
    headers = await stream.start()
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-store"
    [(_, kind, data)] = await stream.next()
    assert kind == "snapshot"
    assert [runner["runner_id"] for runner in data["runners"]] == ["box"]
    assert [session["session_id"] for session in data["sessions"]] == [SESSION_ID]
    hq.events.publish("session", make_session("s2").describe())
    [(event_id, kind, data)] = await stream.next()
    assert (kind, data["session_id"]) == ("session", "s2")
    hq.events.publish("session_removed", {"session_id": "s2"})
    await stream.leave()

    resumed = Stream(app, authorization=f"Bearer {ADMIN}", last_event_id=event_id)
    await resumed.start()
    assert [event[1:] for event in await resumed.next()] == [("session_removed", {"session_id": "s2"})]
    await resumed.leave()
    assert hq.events.subscribers == 0


async def test_the_stream_ends_when_hq_stops(app: Starlette, hq: FakeHq) -> None:
    stream = Stream(app, authorization=f"Bearer {ADMIN}")
    await stream.start()
    await stream.next()
    hq.events.close()
    assert (await stream.chunks.get())["more_body"] is False
    await stream.task


async def test_the_stream_ends_when_its_login_does(app: Starlette, hq: FakeHq) -> None:
    cookie = await hq.store.create_login()
    stream = Stream(app, cookie=f"agentrelay_login={cookie}")
    await stream.start()
    await stream.next()
    await hq.store.revoke(cookie)
    hq.events.publish("session", make_session("secret").describe())
    message = await stream.chunks.get()
    assert (message.get("body", b""), message["more_body"]) == (b"", False)
    await stream.task
