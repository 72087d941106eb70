import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agentrelay.hq import events
from agentrelay.hq.events import EventHub
from agentrelay.hq.info import CursorInfo

SNAPSHOT = {"runners": [1], "sessions": ["✓\n"]}


def parse(chunk: bytes) -> list[tuple[str, str, Any]]:
    """Read events as a browser does; comments are left out."""
    parsed = []
    for block in chunk.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            assert sorted(fields) == ["data", "event", "id"]
            parsed.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return parsed


class Reader:
    """Reads a subscription event by event."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self.stream = stream
        self.pending: list[tuple[str, str, Any]] = []

    async def next(self) -> tuple[str, str, Any]:
        while not self.pending:
            self.pending = parse(await anext(self.stream))
        return self.pending.pop(0)


async def snapshot() -> bytes:
    return msgspec.json.encode(SNAPSHOT)


def subscribe(hub: EventHub, last_event_id: str | None = None) -> Reader:
    return Reader(hub.subscribe(snapshot, last_event_id))


async def test_a_fresh_subscriber_is_told_everything_and_then_what_happens() -> None:
    hub = EventHub()
    hub.publish("session", {"session_id": "old"})
    reader = subscribe(hub)
    _, kind, data = await reader.next()
    assert (kind, data) == ("snapshot", SNAPSHOT)
    hub.publish("session", CursorInfo(row=1, col=2, visible=True))
    hub.publish("session_removed", {"session_id": "x"})
    assert [(await reader.next())[1:] for _ in range(2)] == [
        ("session", {"row": 1, "col": 2, "visible": True}),
        ("session_removed", {"session_id": "x"}),
    ]


async def test_one_that_waits_is_woken() -> None:
    hub = EventHub()
    readers = [subscribe(hub) for _ in range(3)]
    for reader in readers:
        await reader.next()
    waiting = [asyncio.create_task(reader.next()) for reader in readers]
    await asyncio.sleep(0)
    assert hub.subscribers == 3
    hub.publish("runner", {"runner_id": "box"})
    assert [(await each)[1] for each in waiting] == ["runner"] * 3
    assert hub.subscribers == 0


async def test_it_goes_on_behind_the_last_event_that_was_seen() -> None:
    hub = EventHub()
    first = subscribe(hub)
    await first.next()
    for n in range(5):
        hub.publish("session", {"n": n})
    seen = [await first.next() for _ in range(5)]
    for index, (event_id, _, _) in enumerate(seen[:-1]):
        resumed = subscribe(hub, event_id)
        assert [await resumed.next() for _ in range(4 - index)] == seen[index + 1 :]


async def test_the_id_of_a_snapshot_resumes_too() -> None:
    hub = EventHub()
    hub.publish("session", {"n": 0})
    event_id, _, _ = await subscribe(hub).next()
    hub.publish("session", {"n": 1})
    assert (await subscribe(hub, event_id).next())[2] == {"n": 1}


@pytest.mark.parametrize(
    "last_event_id",
    ["", "x", "-1", "0", "00000000-0", "{boot}-2", "{boot}--1", "{boot}-٣", "{boot}-" + "9" * 5000, "{boot}"],
)
async def test_an_id_that_means_nothing_here_is_answered_with_a_snapshot(last_event_id: str) -> None:
    hub = EventHub()
    hub.publish("session", {"n": 0})
    event_id, _, _ = await subscribe(hub).next()
    boot, _, n = event_id.partition("-")
    assert n == "1"
    _, kind, _ = await subscribe(hub, last_event_id.replace("{boot}", boot)).next()
    assert kind == "snapshot"


async def test_an_id_of_another_boot_is_answered_with_a_snapshot() -> None:
    event_id, _, _ = await subscribe(EventHub()).next()
    assert (await subscribe(EventHub(), event_id).next())[1] == "snapshot"


async def test_one_that_falls_too_far_behind_is_given_a_snapshot_and_goes_on() -> None:
    hub = EventHub()
    slow = subscribe(hub)
    await slow.next()
    for n in range(events.KEPT_EVENTS):
        hub.publish("session", {"n": n})
    assert (await slow.next())[1:] == ("session", {"n": 0})  # the oldest that is kept
    lagging = subscribe(hub)
    await lagging.next()
    for n in range(events.KEPT_EVENTS + 1):
        hub.publish("session", {"n": n})
    event_id, kind, _ = await lagging.next()
    assert kind == "snapshot"
    hub.publish("runner", {"n": 7})
    boot, _, number = event_id.partition("-")
    assert await lagging.next() == (f"{boot}-{int(number) + 1}", "runner", {"n": 7})


async def test_what_is_kept_is_bounded_however_large_events_are() -> None:
    hub = EventHub()
    start = subscribe(hub)
    event_id, _, _ = await start.next()
    big = "x" * 100_000
    for _ in range(events.KEPT_EVENTS // 2):
        hub.publish("session", {"command": big})
    assert sum(len(event) for event in hub._kept) <= events.KEPT_BYTES
    assert (await subscribe(hub, event_id).next())[1] == "snapshot"


async def test_one_chunk_is_bounded() -> None:
    hub = EventHub()
    stream = hub.subscribe(snapshot)
    await anext(stream)
    for n in range(500):
        hub.publish("session", {"n": n})
    sizes = [len(parse(await anext(stream))) for _ in range(5)]
    assert sizes == [100] * 5


async def test_silence_is_broken_by_a_comment() -> None:
    hub = EventHub(keep_alive_s=0.001)
    stream = hub.subscribe(snapshot)
    await anext(stream)
    assert [await anext(stream) for _ in range(2)] == [b": keep-alive\n\n"] * 2
    hub.publish("runner", {"n": 1})
    assert parse(await anext(stream))[0][1:] == ("runner", {"n": 1})


async def test_closing_ends_every_subscription() -> None:
    hub = EventHub()
    waiting, busy = subscribe(hub), subscribe(hub)
    await waiting.next()
    await busy.next()
    task = asyncio.create_task(waiting.next())
    await asyncio.sleep(0)
    hub.publish("session", {"n": 1})
    hub.close()
    with pytest.raises(StopAsyncIteration):
        await task
    for reader in (waiting, busy, subscribe(hub)):
        with pytest.raises(StopAsyncIteration):
            await reader.next()


async def test_a_subscriber_that_leaves_is_forgotten() -> None:
    hub = EventHub()
    reader = subscribe(hub)
    await reader.next()
    task = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    assert hub.subscribers == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hub.subscribers == 0
    hub.publish("session", {"n": 1})


async def test_what_happens_while_a_snapshot_is_made_is_told_behind_it() -> None:
    hub = EventHub()

    async def slow_snapshot() -> bytes:
        hub.publish("session", {"n": 1})
        return b"{}"

    reader = Reader(hub.subscribe(slow_snapshot))
    event_id, kind, _ = await reader.next()
    assert kind == "snapshot"
    assert (await reader.next())[2] == {"n": 1}
    assert (await subscribe(hub, event_id).next())[2] == {"n": 1}
