"""Rendering: one session's screen costs no other session its own."""

import asyncio
import os
import signal

import pytest

from agentrelay.hq import rendering
from agentrelay.hq.screen import RENDERER, Screen
from agentrelay.hq.screen.local import LocalScreen
from agentrelay.hq.screen.worker import STEP_BYTES, feed_slice
from agentrelay.hq.session import Session
from tests.hq.fakes import Rig, answered

FILL = b"\x1b#8"
"""Fills the screen: of 1,000 by 1,000, one such byte costs a fifth of a millisecond."""


def expensive(n_bytes: int) -> Rig:
    rig = Rig()
    rig.session.rows = rig.session.cols = 1000
    rig.output((FILL * n_bytes)[:n_bytes])
    return rig


def cheap() -> Rig:
    rig = Rig()
    rig.output(b"shown")
    return rig


def test_a_slice_ends_when_its_time_is_over() -> None:
    screen = LocalScreen(rows=1000, cols=1000)

    assert feed_slice(screen, bytearray(FILL * 1000), answer=False) == (STEP_BYTES, [])


def test_a_slice_of_usual_output_is_all_of_it() -> None:
    screen = LocalScreen(rows=24, cols=80)
    data = bytearray(b"ordinary text\r\n" * 500)

    assert feed_slice(screen, data, answer=False) == (len(data), [])
    assert feed_slice(screen, bytearray(b""), answer=False) == (0, [])


def test_a_slice_gives_the_replies_of_all_its_steps() -> None:
    screen = LocalScreen(rows=24, cols=80)
    data = bytearray(b"\x1b[5n" + b" " * STEP_BYTES + b"\x1b[5n")

    assert feed_slice(screen, data, answer=True) == (len(data), [b"\x1b[0n", b"\x1b[0n"])


async def test_a_screen_that_is_expensive_lets_all_others_pass() -> None:
    await rendering.prepare()
    done: list[str] = []

    async def ask(name: str, rig: Rig) -> None:
        assert await rendering.snapshot(rig.session) is not None
        done.append(name)

    slow = asyncio.create_task(ask("expensive", expensive(8 * STEP_BYTES)))
    await asyncio.sleep(0)
    await asyncio.gather(*(ask("cheap", cheap()) for _ in range(4)))
    await slow

    assert done == ["cheap"] * 4 + ["expensive"]


async def test_reading_a_log_does_not_wait_for_a_screen() -> None:
    await rendering.prepare()
    slow = [asyncio.create_task(rendering.snapshot(expensive(2 * STEP_BYTES).session)) for _ in range(40)]
    await asyncio.sleep(0)

    await asyncio.to_thread(int)

    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


async def test_output_that_takes_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rendering, "PATIENCE_S", 0.0)
    rig = expensive(3 * STEP_BYTES)

    assert await rendering.snapshot(rig.session) is None
    assert "too long to render" in caplog.text

    monkeypatch.setattr(rendering, "PATIENCE_S", 5.0)
    rig.output(b"\x1b[Hafter that")
    screen = await rendering.describe(rig.session)
    assert screen.text[0] == "after that"
    assert screen.offset == rig.session.head
    assert await rendering.snapshot(rig.session) is None, "it is no replay of what was before"


async def test_what_is_asked_while_an_earlier_question_is_answered_is_answered_too() -> None:
    await rendering.prepare()
    rig = Rig()
    where = b"\x1b[6n"
    rig.output(where)
    rendering.answer_queries(rig.session, 0)
    await asyncio.sleep(0)  # it has begun, up to here
    rig.output(b"ab" + where)
    rendering.answer_queries(rig.session, len(where))
    await answered()

    assert b"".join(rig.link.input) == b"\x1b[1;1R\x1b[1;3R"


async def test_a_program_that_asks_endlessly_does_not_keep_others_from_its_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await rendering.prepare()
    begun = []
    catch_up = rendering._Rendering.catch_up

    async def counting(self: rendering._Rendering, session: Session) -> Screen:
        begun.append(session.head)
        return await catch_up(self, session)

    monkeypatch.setattr(rendering._Rendering, "catch_up", counting)
    rig = Rig()

    def ask() -> None:
        start = rig.session.head
        rig.output(b"\x1b[6n")
        rendering.answer_queries(rig.session, start)

    for _ in range(100):
        ask()
    looking = asyncio.create_task(rendering.describe(rig.session))
    while not looking.done():
        await asyncio.sleep(0)
        ask()
    assert len(begun) <= 3, "one answer to all that was asked, and who looks is next"
    await answered()
    answers = b"".join(rig.link.input)
    assert answers.count(b"\x1b[1;1R") >= 100
    assert answers.replace(b"\x1b[1;1R", b"") == b""


async def test_what_was_asked_while_a_viewer_controlled_is_not_answered_later() -> None:
    await rendering.prepare()
    rig = Rig()
    where = b"\x1b[6n"
    rig.output(where)
    rendering.answer_queries(rig.session, 0)
    rig.output(b"a" + where)  # a viewer's terminal answers this one
    start = rig.session.head
    rig.output(b"b" + where)
    rendering.answer_queries(rig.session, start)
    await answered()

    assert b"".join(rig.link.input) == b"\x1b[1;1R\x1b[1;3R"


QUERIES = {
    "cursor": (b"\x1b[6n", b"\x1b[1;2R"),
    "status": (b"\x1b[5n", b"\x1b[0n"),
    "attributes": (b"\x1b[c", None),
    "mode": (b"\x1b[?2004$p", b"\x1b[?2004;2$y"),
    "name": (b"\x1b[>0q", None),
    "colour, BEL": (b"\x1b]11;?\x07", None),
    "colour, ST": (b"\x1b]10;?\x1b\\", None),
    "setting": (b"\x1bP$qm\x1b\\", None),
}
QUERIES["all"] = (b"".join(asked for asked, _ in QUERIES.values()), None)


async def answer_to(*deliveries: bytes) -> bytes:
    """Give what HQ answers to output that comes in these pieces while nobody controls."""
    rig = Rig()
    for piece in deliveries:
        start = rig.session.head
        rig.output(piece)
        rendering.answer_queries(rig.session, start)
        await answered()
    return b"".join(rig.link.input)


@pytest.mark.parametrize("query", QUERIES)
async def test_a_query_in_two_pieces_is_answered_once(query: str) -> None:
    asked, answer = QUERIES[query]
    output = b"a" + asked + b"b"
    whole = await answer_to(output)
    assert whole
    assert answer in (None, whole)
    for cut in range(1, len(output)):
        assert await answer_to(output[:cut], output[cut:]) == whole, cut
    assert await answer_to(*(output[at : at + 1] for at in range(len(output)))) == whole


async def test_a_query_that_a_viewer_has_seen_whole_is_not_answered_with_what_comes_next() -> None:
    rig = Rig()
    rig.output(b"\x1b[6n")  # a viewer controls
    start = rig.session.head
    rig.output(b"and more")
    rendering.answer_queries(rig.session, start)
    await answered()

    assert rig.link.input == []


async def test_a_renderer_that_was_killed_while_idle_costs_nobody_a_screen() -> None:
    rig = cheap()
    assert (await rendering.describe(rig.session)).text[0] == "shown"
    assert RENDERER._process is not None
    worker = RENDERER._process.pid
    os.kill(worker, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    rig.output(b" and more")
    assert (await rendering.describe(rig.session)).text[0] == "shown and more"
    assert await rendering.snapshot(rig.session) is not None
