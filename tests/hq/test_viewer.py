"""Viewer: every byte once and in order, whatever the viewer has, misses, or is too slow for."""

import asyncio
import hashlib
import logging
import os
import select
import socket
import struct
import threading

import pytest

from agentrelay import fastpath
from agentrelay.errors import LogError
from agentrelay.hq import rendering
from agentrelay.hq.input_queue import WINDOW_BYTES as INPUT_WINDOW_BYTES
from agentrelay.hq.log import session_log
from agentrelay.hq.log.session_log import LogLimits, SessionLog
from agentrelay.hq.session import Session
from agentrelay.hq.viewer import FELL_BEHIND_BYTES, FRAME_BYTES, IN_FLIGHT_BYTES, REPLAY_MISSED_BYTES, Viewer
from agentrelay.protocol import pace
from agentrelay.protocol.messages import LinkGap
from tests.hq.plane import (
    SECONDS,
    Disk,
    FakeRunner,
    Plane,
    Program,
    attached,
    happens,
    started,
    viewing,
)

MIB = 1 << 20


async def at_hq(plane: Plane, program: Program) -> Session:
    """Wait until HQ has all output."""
    session = plane.session(program.session_id)
    await happens(lambda: session.head == len(program.output))
    return session


async def only_in_log(plane: Plane, program: Program) -> Session:
    """Wait until everything is in the log, and drop it from memory."""
    session = await at_hq(plane, program)
    await plane.logged(program.session_id)
    assert session.ring is not None
    session.ring.release_memory()
    return session


# --- starting and attaching -----------------------------------------------------------------------


async def test_who_starts_a_session_sees_it_from_its_first_byte(plane: Plane, runner: FakeRunner) -> None:
    async with started(plane, runner, session_id="mine", rows=30, cols=100) as (viewer, program):
        assert viewer.answer | {"viewer": "", "session_id": ""} == {
            "session_id": "",
            "runner_id": "box",
            "epoch": "e1",
            "pid": 42,
            "rows": 30,
            "cols": 100,
            "viewer": "",
            "ref": "mine",
        }
        assert viewer.answer["session_id"] != "mine"
        program.print(b"$ ")
        await viewer.read_to(2)
        await viewer.type(b"ls\n")
        await runner.until(lambda: program.typed == b"ls\n")

        assert viewer.output == b"$ "


async def test_a_small_session_is_replayed_whole(plane: Plane, program: Program) -> None:
    program.print(b"all of it")
    await at_hq(plane, program)
    async with attached(plane, program.session_id) as viewer:
        assert viewer.answer["replay"] == {"kind": "log", "bytes": 9}
        assert viewer.answer["offset"] == 9
        assert viewer.answer["control"]
        program.print(b", and more")
        await viewer.read_to(19)

        assert viewer.output == b"all of it, and more"


async def test_a_large_session_is_shown_as_a_snapshot(plane: Plane, program: Program) -> None:
    program.print(b"x" * (MIB + 1) + b"\x1b[2J\x1b[Hhello from the screen")
    session = await at_hq(plane, program)
    async with attached(plane, program.session_id) as viewer:
        assert viewer.answer["replay"]["kind"] == "snapshot"
        assert viewer.answer["offset"] == session.head
        program.print(b"live")
        await viewer.read_to(session.head + 4)

        assert b"hello from the screen" in viewer.snapshot
        assert len(viewer.snapshot) == viewer.answer["replay"]["bytes"]
        assert viewer.output == b"live"


@pytest.mark.parametrize("where", ["memory", "log", "both"])
@pytest.mark.parametrize("start", [0, 1, 99_999, 150_000, 200_000])
async def test_a_viewer_gets_what_it_misses(plane: Plane, program: Program, where: str, start: int) -> None:
    stream = os.urandom(200_000)
    program.print(stream[:100_000])
    if where != "memory":
        await only_in_log(plane, program)
    program.print(stream[100_000:])
    await at_hq(plane, program)
    if where == "log":
        await only_in_log(plane, program)
    async with attached(plane, program.session_id, from_=start) as viewer:
        assert viewer.answer["replay"] == {"kind": "log", "bytes": 200_000 - start}
        await viewer.read_to(200_000)
        program.print(b"live")
        await viewer.read_to(200_004)

        assert viewer.output == stream[start:] + b"live"


async def test_an_offset_of_another_life_is_void(plane: Plane, program: Program) -> None:
    program.print(b"0123456789")
    await at_hq(plane, program)
    async with attached(plane, program.session_id, from_=5, epoch="another") as viewer:
        assert viewer.answer["replay"] == {"kind": "log", "bytes": 10}
    async with attached(plane, program.session_id, from_=5, epoch="e1") as viewer:
        assert viewer.answer["replay"] == {"kind": "log", "bytes": 5}


async def test_who_missed_too_much_gets_a_snapshot(plane: Plane, program: Program) -> None:
    program.print(os.urandom(REPLAY_MISSED_BYTES + 1))
    session = await at_hq(plane, program)
    async with attached(plane, program.session_id, from_=0) as viewer:
        assert viewer.answer["replay"]["kind"] == "snapshot"
    async with attached(plane, program.session_id, from_=1) as viewer:
        assert viewer.answer["replay"] == {"kind": "log", "bytes": REPLAY_MISSED_BYTES}
        await viewer.read_to(session.head)

        assert viewer.output == program.output[1:]


async def test_who_misses_bytes_that_the_log_has_deleted_is_told(
    plane: Plane, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = LogLimits(keep_bytes=100_000, segment_bytes=50_000)
    monkeypatch.setattr(session_log, "LogLimits", lambda: small)
    program = await runner.start_program()
    for _ in range(10):
        program.print(os.urandom(40_000))
        session = await only_in_log(plane, program)
    base = session.base
    assert 0 < base <= session.head - 100_000
    async with attached(plane, program.session_id, from_=base - 10) as viewer:
        # The replay is what there is, so that what follows it is live.
        assert viewer.answer["replay"] == {"kind": "log", "bytes": session.head - base}
        program.print(b"live")
        await viewer.read_to(len(program.output))

        assert viewer.missed == (base - 10, base)
        assert viewer.output == program.output[base:]


async def test_an_offset_ahead_of_hq_waits_for_the_runner_to_send_it_again(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    program.print(b"0123456789")
    await at_hq(plane, program)
    async with attached(plane, program.session_id, from_=15) as viewer:
        assert viewer.answer["offset"] == 15
        assert viewer.answer["replay"]["bytes"] == 0
        program.print(b"abcde")
        program.print(b"new")
        await viewer.read_to(18)

        assert viewer.output == b"new"
        assert viewer.frames == [3]


async def test_the_size_of_who_attaches_counts_if_it_controls(plane: Plane, program: Program) -> None:
    async with attached(plane, program.session_id, rows=50, cols=132) as first:
        assert (first.answer["rows"], first.answer["cols"]) == (50, 132)
        async with attached(plane, program.session_id, rows=10, cols=10) as second:
            assert (second.answer["rows"], second.answer["cols"]) == (50, 132)
            assert not second.answer["control"]


# --- live output ----------------------------------------------------------------------------------


async def test_output_comes_in_frames_of_64_kib_at_most(plane: Plane, program: Program) -> None:
    async with attached(plane, program.session_id) as viewer:
        program.print(os.urandom(3 * MIB))
        await viewer.read_to(3 * MIB)

        assert viewer.output == program.output
        assert max(viewer.frames) <= FRAME_BYTES


async def test_twenty_viewers_see_the_same(plane: Plane, program: Program) -> None:
    async with asyncio.TaskGroup() as group:

        async def watch() -> None:
            async with attached(plane, program.session_id) as viewer:
                await viewer.read_to(MIB)
                assert viewer.output == program.output

        for _ in range(20):
            group.create_task(watch())
        await happens(lambda: plane.session(program.session_id).describe().viewers == 20)
        for _ in range(16):
            program.print(os.urandom(MIB // 16))
            await asyncio.sleep(0)


async def test_a_viewer_that_acks_is_sent_so_much_and_no_more(plane: Plane, program: Program) -> None:
    async with attached(plane, program.session_id) as viewer, attached(plane, program.session_id) as other:
        await viewer.say("ack", offset=0)
        await viewer.say("ping")
        await viewer.hear("pong")
        program.print(os.urandom(MIB))
        await other.read_to(MIB)
        await viewer.say("ping")
        await viewer.hear("pong")
        assert viewer.position == IN_FLIGHT_BYTES, "the pong came behind all it was sent"

        await viewer.say("ack", offset=100_000)
        await viewer.read_to(IN_FLIGHT_BYTES + 100_000)
        await viewer.say("ack", offset=MIB * 5)
        await viewer.read_to(MIB)
        assert viewer.output == program.output


async def test_who_takes_a_little_now_and_then_sets_nobodys_pace(plane: Plane, program: Program) -> None:
    async with attached(plane, program.session_id) as viewer:
        await viewer.say("ack", offset=0)
        program.print(os.urandom(MIB))
        await viewer.read_to(IN_FLIGHT_BYTES)
        (follower,) = plane.session(program.session_id).followers
        moved = []
        for acked in (100, pace.SLOWEST_BYTES - 1, pace.SLOWEST_BYTES, pace.SLOWEST_BYTES + 100):
            await viewer.say("ack", offset=acked)
            await viewer.say("ping")
            await viewer.hear("pong")
            assert follower.position == acked
            moved.append(follower.moved_s)

        assert moved[0] == moved[1] < moved[2] == moved[3]


async def test_the_replay_too_waits_for_acks(plane: Plane, program: Program) -> None:
    program.print(os.urandom(2 * MIB))
    await only_in_log(plane, program)
    async with viewing(plane, f"/ws/session/{program.session_id}") as viewer:
        await viewer.say("attach", **{"from": 0})
        await viewer.say("ack", offset=0)
        await viewer.hear("attached")
        for acked in (0, 1000, 70_000, 300_001, 800_000):
            await viewer.say("ack", offset=acked)
            await viewer.read_to(acked + IN_FLIGHT_BYTES)
            assert viewer.position == acked + IN_FLIGHT_BYTES
        while viewer.position < 2 * MIB:
            await viewer.say("ack", offset=viewer.position)
            await viewer.step()

        assert viewer.output == program.output


# --- slow viewers ---------------------------------------------------------------------------------


async def test_a_stalled_viewer_makes_nobody_wait_and_costs_one_frame(plane: Plane, program: Program) -> None:
    async with (
        attached(plane, program.session_id, slow=True) as stalled,
        attached(plane, program.session_id) as other,
    ):
        digest = hashlib.sha256()
        for _ in range(12):
            data = os.urandom(MIB)
            digest.update(data)
            program.print(data)
            await other.read_to(len(program.output))

        assert hashlib.sha256(other.output).digest() == digest.digest()
        (follower, _) = plane.session(program.session_id).followers
        assert isinstance(follower, Viewer)
        waiting_bytes = follower._endpoint.transport.get_write_buffer_size()
        assert 0 < waiting_bytes <= FRAME_BYTES + 10
        # What it has missed by now is no longer in memory; when it reads again it gets every byte.
        assert follower.position < plane.session(program.session_id).ring_base
        await stalled.read_to(12 * MIB)
        assert stalled.output == program.output


async def test_a_viewer_that_falls_too_far_behind_is_shown_the_present(
    plane: Plane, program: Program
) -> None:
    async with (
        attached(plane, program.session_id, slow=True) as stalled,
        attached(plane, program.session_id) as other,
    ):
        total_bytes = FELL_BEHIND_BYTES + 8 * MIB
        while len(program.output) < total_bytes:
            program.print(os.urandom(MIB))
            await other.read_to(len(program.output))
        resync = await stalled.hear("resync")
        program.print(b"live")
        await stalled.read_to(total_bytes + 4)

        assert resync["replay"]["kind"] == "snapshot"
        assert resync["offset"] == total_bytes
        assert stalled.output == b"live"
        assert len(stalled.snapshot) == resync["replay"]["bytes"]


async def test_a_viewer_that_falls_too_far_behind_gets_the_log_where_there_is_no_snapshot(
    plane: Plane, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def no_snapshot(session: Session) -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(rendering, "snapshot", no_snapshot)
    async with (
        attached(plane, program.session_id, slow=True) as stalled,
        attached(plane, program.session_id) as other,
    ):
        total_bytes = FELL_BEHIND_BYTES + 8 * MIB
        while len(program.output) < total_bytes:
            program.print(os.urandom(MIB))
            await other.read_to(len(program.output))
        await stalled.read_to(total_bytes)

        assert asked == 1
        assert stalled.output == program.output


async def test_a_viewer_that_leaves_while_its_snapshot_is_rendered_spoils_it_for_nobody(
    plane: Plane, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, fed = threading.Event(), bytearray()

    class Slow:
        lost = to_blame = False

        def feed(self, data: bytes, *, answer: bool = False) -> bytes:
            fed.extend(data)
            assert not data or may_go_on.wait(SECONDS)
            return b""

        def feed_slice(self, data: bytes, *, answer: bool = False) -> tuple[int, bytes]:
            return len(data), self.feed(data, answer=answer)

        def snapshot(self) -> bytes:
            return b"a screen"

    monkeypatch.setattr(rendering, "_new_screen", lambda rows, cols: Slow())
    async with (
        attached(plane, program.session_id) as other,
        attached(plane, program.session_id, slow=True) as stalled,
    ):
        while len(program.output) < FELL_BEHIND_BYTES + 8 * MIB:
            program.print(os.urandom(MIB))
            await other.read_to(len(program.output))
        reading = asyncio.create_task(stalled.until_closed())
        await happens(lambda: fed)
        session = plane.session(program.session_id)
        leaving = session.followers[-1]
        assert isinstance(leaving, Viewer)
        leaving._endpoint.abort()
        await happens(lambda: leaving not in session.followers)
        may_go_on.set()
        await rendering.snapshot(session)
        await reading

        assert program.output.endswith(fed)


async def test_a_viewer_that_is_reset_while_it_is_written_to_disturbs_nobody(
    plane: Plane, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0
    write_frames = fastpath.write_frames

    def count(fd: int, ring: fastpath.ByteRing, start: int, end: int, frame_bytes: int) -> tuple[int, bytes]:
        nonlocal writes
        writes += 1
        assert writes < 1000, "it is tried for ever"
        return write_frames(fd, ring, start, end, frame_bytes)

    monkeypatch.setattr(fastpath, "write_frames", count)
    async with (
        attached(plane, program.session_id) as gone,
        attached(plane, program.session_id) as other,
    ):
        follower = plane.session(program.session_id).followers[0]
        assert isinstance(follower, Viewer)
        sock: socket.socket = gone.connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.connection.transport.abort()
        await asyncio.sleep(0)
        # The reset is in HQ's kernel, and HQ's loop has not looked yet.
        watch = select.poll()
        watch.register(follower._endpoint.fd, select.POLLIN)
        assert watch.poll(5000)
        plane.session(program.session_id).writable_ring().append(b"x" * 100_000)
        plane.session(program.session_id).on_output()
        await other.read_to(100_000)
        await happens(lambda: plane.session(program.session_id).describe().viewers == 1)


# --- gaps -----------------------------------------------------------------------------------------


def lose(runner: FakeRunner, program: Program, n_bytes: int) -> tuple[int, int]:
    """Let the runner lose the next bytes of a program, and say so."""
    start = len(program.output)
    assert program.sent == start
    assert program.stream is not None
    program.output += bytes(n_bytes)
    program.sent = start + n_bytes
    runner.say(LinkGap(stream=program.stream, from_=start, to=start + n_bytes))
    return start, start + n_bytes


@pytest.mark.parametrize("recording", [True, False])
async def test_a_gap_is_shown_where_it_is(plane: Plane, runner: FakeRunner, recording: bool) -> None:
    program = await runner.start_program(recording=recording)
    async with attached(plane, program.session_id) as viewer:
        program.print(b"before")
        gap = lose(runner, program, 1000)
        program.print(b"after")
        await viewer.read_to(1011)

        assert viewer.gaps == [gap]
        assert viewer.shown == program.output


async def test_who_attaches_later_is_told_of_the_gap_too(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    program.print(b"before")
    gap = lose(runner, program, 1000)
    program.print(b"after")
    await plane.logged(program.session_id)
    await at_hq(plane, program)
    await plane.logged(program.session_id)
    async with attached(plane, program.session_id, from_=2) as viewer:
        await viewer.read_to(1011)

        assert viewer.gaps == [gap]
        assert viewer.shown == program.output[2:]


async def test_who_attaches_between_gaps_waits_for_what_the_disk_has_not_taken(
    plane: Plane, runner: FakeRunner, program: Program, disk: Disk
) -> None:
    program.print(b"before")
    gaps = [lose(runner, program, 1000)]
    await at_hq(plane, program)
    await plane.logged(program.session_id)
    disk.answers.clear()
    program.print(b"between")
    gaps.append(lose(runner, program, 1000))
    program.print(b"after")
    await at_hq(plane, program)
    async with attached(plane, program.session_id) as viewer:
        await viewer.read_to(gaps[0][1])
        disk.answers.set()
        await viewer.read_to(len(program.output))

        assert viewer.gaps == gaps
        assert viewer.shown == program.output


async def stall(plane: Plane, program: Program) -> None:
    """Print until the one viewer there is takes no more."""
    (follower,) = plane.session(program.session_id).followers
    assert isinstance(follower, Viewer)
    while follower._endpoint.writable:
        program.print(os.urandom(200_000))
        await at_hq(plane, program)


async def test_a_gap_behind_a_slow_disk_costs_a_slow_viewer_nothing_else(
    plane: Plane, runner: FakeRunner, program: Program, disk: Disk
) -> None:
    async with attached(plane, program.session_id, slow=True) as viewer:
        await stall(plane, program)
        await plane.logged(program.session_id)
        disk.answers.clear()
        program.print(os.urandom(100_000))
        await at_hq(plane, program)
        # The viewer has not read the last of it, the log does not have it, and now the ring is a new one.
        gap = lose(runner, program, 1000)
        program.print(b"after")
        await at_hq(plane, program)
        reading = asyncio.ensure_future(viewer.read_to(len(program.output)))
        await viewer.connection.ping()
        disk.answers.set()
        await reading

        assert viewer.gaps == [gap]
        assert viewer.shown == program.output


async def test_what_a_disk_that_fails_has_not_taken_before_a_gap_is_lost_with_it(
    plane: Plane, runner: FakeRunner, program: Program, disk: Disk
) -> None:
    async with attached(plane, program.session_id, slow=True) as viewer:
        await stall(plane, program)
        await plane.logged(program.session_id)
        logged = len(program.output)
        disk.answers.clear()
        program.print(os.urandom(100_000))
        await at_hq(plane, program)
        gap = lose(runner, program, 1000)
        await at_hq(plane, program)
        await viewer.read_to(logged)
        disk.fails = True
        disk.answers.set()
        await viewer.read_to(gap[1])

        assert viewer.gaps == [(logged, gap[1])]
        assert viewer.shown[:logged] == program.output[:logged]


async def test_a_viewer_that_is_behind_several_gaps_sees_each_where_it_is(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id, slow=True) as viewer:
        await stall(plane, program)
        gaps = [lose(runner, program, 1000)]
        program.print(b"between")
        gaps.append(lose(runner, program, 2000))
        program.print(b"after")
        await viewer.read_to(len(program.output))

        assert viewer.gaps == gaps
        assert viewer.shown == program.output


async def test_without_a_log_a_stalled_viewer_is_told_what_it_missed(
    plane: Plane, runner: FakeRunner
) -> None:
    program = await runner.start_program(recording=False)
    async with (
        attached(plane, program.session_id, slow=True) as stalled,
        attached(plane, program.session_id) as other,
    ):
        for _ in range(6):
            program.print(os.urandom(MIB))
            await other.read_to(len(program.output))
        lose(runner, program, 1000)
        for _ in range(6):
            program.print(os.urandom(MIB))
            await other.read_to(len(program.output))
        await stalled.read_to(len(program.output))

        assert stalled.gaps
        assert all(start < stop for start, stop in stalled.gaps)
        for start, stop in stalled.gaps:
            program.output[start:stop] = bytes(stop - start)
        assert stalled.shown == program.output
        assert len(stalled.gaps) <= 3


async def test_a_log_that_cannot_be_read_is_a_gap(
    plane: Plane, program: Program, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program.print(b"unreadable")
    await only_in_log(plane, program)

    def fail(log: SessionLog, start: int, max_bytes: int) -> tuple[int, bytes]:
        raise LogError("the disk does not answer")

    monkeypatch.setattr(SessionLog, "read", fail)
    async with attached(plane, program.session_id, from_=0) as viewer:
        program.print(b"live")
        await viewer.read_to(14)

        assert viewer.gaps == [(0, 10)]
        assert viewer.shown[10:] == b"live"
        assert viewer.frames == [4], "an empty frame is no output"
    assert "the disk does not answer" in caplog.text


async def test_a_disk_that_is_full_is_told_and_live_output_goes_on(
    plane: Plane, program: Program, disk: Disk
) -> None:
    disk.fails = True
    async with attached(plane, program.session_id) as viewer:
        program.print(b"not recorded")
        assert (await viewer.hear("error"))["message"] == "recording stopped: the disk is full"
        for _ in range(6):
            program.print(os.urandom(MIB))
            await viewer.read_to(len(program.output))

        assert viewer.output == program.output
        assert not plane.session(program.session_id).describe().recording


# --- the end --------------------------------------------------------------------------------------


async def test_the_end_comes_behind_the_last_byte(plane: Plane, runner: FakeRunner) -> None:
    async with started(plane, runner) as (viewer, program):
        program.print(os.urandom(3 * MIB))
        program.exit(None, signal=9)
        ended = await viewer.hear("session_ended")

        assert viewer.output == program.output
        assert ended == {"session_id": program.session_id, "exit_code": None, "signal": 9}
        assert await viewer.until_closed() == (1000, "the session has ended")


async def test_a_slow_viewer_gets_every_byte_before_the_end(plane: Plane, program: Program) -> None:
    async with attached(plane, program.session_id, slow=True) as viewer:
        program.print(os.urandom(6 * MIB))
        program.exit(3)
        await happens(lambda: plane.session(program.session_id).over)
        ended = await viewer.hear("session_ended")

        assert viewer.output == program.output
        assert ended["exit_code"] == 3


@pytest.mark.parametrize("start", [0, 5, 10])
async def test_an_ended_session_gives_what_is_missing_and_its_end(
    plane: Plane, program: Program, start: int
) -> None:
    program.print(b"0123456789")
    program.exit(7)
    await happens(lambda: plane.session(program.session_id).over)
    async with attached(plane, program.session_id, from_=start) as viewer:
        ended = await viewer.hear("session_ended")

        assert viewer.output == b"0123456789"[start:]
        assert ended["exit_code"] == 7
        assert await viewer.until_closed() == (1000, "the session has ended")


async def test_a_lost_session_ends_for_its_viewers(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id) as viewer:
        await runner.disconnect()
        runner.programs.clear()
        await runner.connect()

        assert (await viewer.hear("error"))["code"] == "session_over"
        ended = await viewer.hear("session_ended")
        assert (ended["exit_code"], ended["signal"]) == (None, None)


# --- input ----------------------------------------------------------------------------------------


async def test_input_is_acknowledged_and_resumed(plane: Plane, runner: FakeRunner, program: Program) -> None:
    async with attached(plane, program.session_id, viewer="phone") as viewer:
        assert viewer.answer["input"] is None
        await viewer.type(b"echo ")
        await viewer.type(b"hi\n")
        await viewer.hear("input_ack", offset=8)
    async with attached(plane, program.session_id, viewer="phone") as viewer:
        assert viewer.answer["input"] == 8
        await viewer.type(b"more")
        await viewer.hear("input_ack", offset=12)
    async with attached(plane, program.session_id, viewer="laptop") as viewer:
        assert viewer.answer["input"] is None
    await runner.until(lambda: program.typed == b"echo hi\nmore")


async def test_a_lot_of_input_is_acknowledged_on_the_way(plane: Plane, program: Program) -> None:
    async with attached(plane, program.session_id, viewer="phone") as viewer:
        for _ in range(10):
            await viewer.type(bytes(10_000))
        await viewer.hear("input_ack", offset=100_000)

        assert 5 <= sum(kind == "input_ack" for kind, _ in viewer.messages) <= 10


async def test_a_viewer_without_a_name_is_not_bothered_with_acknowledgements(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id) as viewer:
        await viewer.type(bytes(100_000))
        await runner.until(lambda: len(program.typed) == 100_000)
        program.exit()
        await viewer.hear("session_ended")

        assert [kind for kind, _ in viewer.messages] == ["attached", "session_ended"]


async def test_a_paste_into_a_program_that_does_not_read_stops_only_its_viewer(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    other_program = await runner.start_program()
    program.reads = False
    paste = [os.urandom(500_000) for _ in range(6)]
    async with (
        attached(plane, program.session_id) as pasting,
        attached(plane, other_program.session_id) as other,
    ):
        sending = asyncio.ensure_future(asyncio.wait([asyncio.ensure_future(send_all(pasting, paste))]))
        session = plane.session(program.session_id)
        await happens(lambda: session.input.full)
        for number in range(50):
            other_program.print(b"%02d" % number)
            await other.read_to(2 * number + 2)
            await other.type(b"x")
        await runner.until(lambda: len(other_program.typed) == 50)
        assert session.input.taken <= INPUT_WINDOW_BYTES + len(paste[0])
        assert len(program.typed) <= INPUT_WINDOW_BYTES + (64 << 10)

        program.read_input()
        await runner.until(lambda: len(program.typed) == 3_000_000)
        await sending
        assert program.typed == b"".join(paste)


async def send_all(viewer: object, pieces: list[bytes]) -> None:
    for piece in pieces:
        await viewer.type(piece)  # type: ignore[attr-defined]


async def test_a_paused_viewer_still_learns_of_the_end(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    program.reads = False
    async with attached(plane, program.session_id) as viewer:
        await viewer.type(bytes(INPUT_WINDOW_BYTES))
        await happens(lambda: plane.session(program.session_id).input.full)
        program.exit(1)

        assert (await viewer.hear("session_ended"))["exit_code"] == 1
        assert await viewer.until_closed() == (1000, "the session has ended")


async def test_input_typed_while_the_runner_is_away_arrives(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id) as viewer:
        await viewer.type(b"before ")
        await runner.until(lambda: program.typed == b"before ")
        await runner.disconnect()
        await viewer.type(b"after")
        await happens(lambda: plane.session(program.session_id).input.taken == 12)
        await runner.connect()
        await runner.until(lambda: program.typed == b"before after")


# --- control messages -----------------------------------------------------------------------------


async def test_a_second_viewer_looks_on_until_it_takes_control(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id) as first, attached(plane, program.session_id) as second:
        assert (first.answer["control"], second.answer["control"]) == (True, False)
        await second.type(b"no")
        assert (await second.hear("error"))["code"] == "not_in_control"
        await second.say("resize", rows=10, cols=10)
        assert (await second.hear("error"))["code"] == "not_in_control"

        await second.say("take_control")
        assert await second.hear("control") == {"viewer": second.answer["viewer"], "you": True}
        assert await first.hear("control") == {"viewer": second.answer["viewer"], "you": False}
        await second.say("resize", rows=10, cols=20)
        for viewer in (first, second):
            assert await viewer.hear("resized") == {"rows": 10, "cols": 20}
        await second.type(b"yes")
        await runner.until(lambda: program.typed == b"yes")

        await second.connection.close()
        assert await first.hear("control", viewer=None) == {"viewer": None, "you": False}


async def test_a_wrong_message_is_answered_and_the_connection_goes_on(plane: Plane, program: Program) -> None:
    async with attached(plane, program.session_id) as viewer:
        for text, words in [
            ('{"type":"resize","payload":{"rows":0,"cols":1}}', "payload of resize"),
            ("no json", "not: "),
            ('{"type":"attach","payload":{}}', "has to be the first message"),
            ('{"type":"start_session","payload":{}}', "has to be the first message"),
        ]:
            await viewer.connection.send(text)
            error = await viewer.hear("error")
            assert error["code"] == "bad_message"
            assert words in error["message"]
        await viewer.connection.send('{"type":"from the future","payload":{}}')
        program.print(b"still here")
        await viewer.read_to(10)

        assert [kind for kind, _ in viewer.messages] == ["attached", *["error"] * 4]


async def test_a_signal_reaches_the_runner_or_its_absence_is_told(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id) as viewer:
        await viewer.say("signal", name="INT")
        await runner.until(lambda: any(getattr(message, "name", "") == "INT" for message in runner.heard))
        await runner.disconnect()
        await viewer.say("signal", name="INT")

        assert (await viewer.hear("error"))["code"] == "runner_away"


async def test_a_viewer_that_only_watches_sends_no_signals(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id), attached(plane, program.session_id) as watching:
        await watching.say("signal", name="INT")
        assert (await watching.hear("error"))["code"] == "not_in_control"
        await watching.say("take_control")
        await watching.say("signal", name="QUIT")
        await runner.until(lambda: any(getattr(message, "name", "") == "QUIT" for message in runner.heard))

    assert "INT" not in [getattr(message, "name", "") for message in runner.heard]


@pytest.mark.parametrize(("ahead", "start"), [(4 * MIB, 4 * MIB + 5), (4 * MIB + 1, 0)], ids=["some", "far"])
async def test_a_viewer_can_be_ahead_of_hq_by_what_an_earlier_one_had_and_no_more(
    plane: Plane, program: Program, ahead: int, start: int
) -> None:
    program.print(b"first")
    await happens(lambda: plane.session(program.session_id).head == 5)
    async with attached(plane, program.session_id, from_=5 + ahead) as viewer:
        assert viewer.first == start


async def test_a_viewer_that_comes_back_replaces_its_own_dead_connection(
    plane: Plane, program: Program
) -> None:
    async with (
        attached(plane, program.session_id, viewer="phone") as dead,
        attached(plane, program.session_id, viewer="laptop") as other,
        attached(plane, program.session_id, viewer="phone") as back,
    ):
        assert back.answer["control"], "it had control, and has it again"
        assert await dead.until_closed() == (4000, "this viewer has a newer connection")
        program.print(b"x")
        await other.read_to(1)
        await back.read_to(1)
        assert plane.session(program.session_id).describe().viewers == 2


async def test_hq_says_nothing_it_should_not(
    plane: Plane, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    """The log of an ordinary life of a session has nothing to worry about in it."""
    caplog.set_level(logging.WARNING)
    async with attached(plane, program.session_id) as viewer:
        program.print(b"x" * 1000)
        await viewer.type(b"y" * 1000)
        await viewer.read_to(1000)
        program.exit()
        await viewer.until_closed()

    assert caplog.text == ""


async def test_a_viewer_that_does_not_read_is_told_how_things_are_when_it_does(
    plane: Plane, program: Program
) -> None:
    async with (
        attached(plane, program.session_id) as first,
        attached(plane, program.session_id) as slow,
    ):
        session = plane.session(program.session_id)
        follower = session.followers[1]
        assert isinstance(follower, Viewer)
        follower._endpoint.pause_writing()  # as if the kernel took no more
        for number in range(100):
            await first.say("resize", rows=10 + number, cols=80)
        await happens(lambda: session.rows == 109)
        await slow.say("take_control")
        await happens(lambda: session.controller is follower)
        follower._endpoint.resume_writing()

        assert (await slow.hear("control"))["you"]
        told = [payload["rows"] for kind, payload in slow.messages if kind == "resized"]
        assert told == [109]
