"""Runner link: who may register, what breaks a link, and how sessions go on with the next one."""

import asyncio
import os
from typing import Any

import pytest

from agentrelay import fastpath
from agentrelay.errors import RunnerAway
from agentrelay.hq import runner_link
from agentrelay.hq.input_queue import InputQueue
from agentrelay.hq.runner_link import MAX_COMPLAINTS, RunnerLink
from agentrelay.hq.session import State
from agentrelay.protocol import mux
from agentrelay.protocol.ids import StreamId
from agentrelay.protocol.messages import (
    Error,
    Exited,
    LinkGap,
    Registered,
    StartNotDone,
    Stop,
    StreamResize,
    StreamSignal,
    encode,
)
from agentrelay.transport.dial import dial
from tests.hq.ends import MemoryEndpoint
from tests.hq.plane import RUNNER, Disk, FakeRunner, Plane, Program, attached, happens, has

MIB = 1 << 20


# --- registering ----------------------------------------------------------------------------------


async def test_a_runner_is_known_by_what_it_says(plane: Plane) -> None:
    runner = FakeRunner(plane)
    await runner.dial()
    runner.register(
        hostname="mac.local",
        presets=[{"name": "claude", "label": "Claude Code", "path": "/bin/claude"}],
    )
    registered: Registered = await runner.hear(Registered)

    assert registered.runner_id == "box"
    assert registered.sessions == []
    (info,) = plane.registry.describe_runners()
    assert (info.runner_id, info.hostname, info.online, info.sessions) == ("box", "mac.local", True, 0)
    assert [preset.name for preset in info.presets] == ["claude"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runner_id": ""}, "1 to 64 characters"),
        ({"runner_id": "a b"}, "1 to 64 characters"),
        ({"runner_id": "x" * 65}, "1 to 64 characters"),
        ({"protocol": 2}, "speaks protocol 1"),
        ({"hostname": 5}, "payload of register"),
    ],
)
async def test_a_register_that_will_not_do_is_told_and_the_end(
    plane: Plane, changes: dict[str, Any], words: str
) -> None:
    runner = FakeRunner(plane)
    await runner.dial()
    runner.register(**changes)
    error: Error = await runner.hear(Error)

    assert error.code == "bad_message"
    assert words in error.message
    assert (await runner.until_closed())[0] == 1008
    assert plane.registry.describe_runners() == []


@pytest.mark.parametrize("first", ["another message", "no message", "output", "noise"])
async def test_the_first_message_has_to_be_register(plane: Plane, first: str) -> None:
    runner = FakeRunner(plane)
    await runner.dial()
    if first == "another message":
        runner.say(Exited(stream=1, offset=0, exit_code=0, signal=None))
    elif first == "no message":
        runner.endpoint.send_text(b"{}")
    elif first == "output":
        runner.frame(mux.Kind.OUTPUT, 1, b"x")
    else:
        runner.frame(77, 1, b"x")
    # What follows does not count any more.
    runner.register()

    assert (await runner.hear(Error)).code == "bad_message"
    assert (await runner.until_closed())[0] == 1008
    assert plane.registry.describe_runners() == []


async def test_a_link_that_does_not_register_is_closed(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_link, "REGISTER_S", 0.03)
    runner = FakeRunner(plane)
    await runner.dial()

    assert (await runner.hear(Error)).code == "timeout"
    assert (await runner.until_closed())[0] == 1008


async def test_a_link_that_goes_before_it_registers_leaves_nothing(plane: Plane) -> None:
    runner = FakeRunner(plane)
    await runner.dial()
    runner.endpoint.abort()
    await happens(lambda: not plane.state.connections)

    assert plane.registry.describe_runners() == []


async def test_a_runner_that_goes_is_away_and_still_known(plane: Plane, runner: FakeRunner) -> None:
    await runner.disconnect()

    (info,) = plane.registry.describe_runners()
    assert not info.online
    assert info.last_seen_at is not None


# --- bad messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [b"no json", b'{"type":"exited","payload":{}}', b'{"type":"register","payload":{}}']
)
async def test_a_message_that_is_none_is_told_and_the_link_goes_on(
    plane: Plane, runner: FakeRunner, program: Program, text: bytes
) -> None:
    runner.endpoint.send_text(text)

    assert (await runner.hear(Error)).code == "bad_message"
    program.print(b"still here")
    await has(plane, program)
    assert runner.closed is None


@pytest.mark.parametrize("text", [b'{"type":"from the future","payload":{"a":1}}'])
async def test_a_message_of_the_future_is_ignored(
    plane: Plane, runner: FakeRunner, program: Program, text: bytes
) -> None:
    runner.endpoint.send_text(text)
    program.print(b"still here")
    await has(plane, program)

    assert not any(isinstance(message, Error) for message in runner.heard)


@pytest.mark.parametrize(
    "fault", ["kind", "ack", "input ack", "short", "flags", "output past the limit", "gap elsewhere"]
)
async def test_what_breaks_the_protocol_breaks_this_link_and_nothing_else(
    plane: Plane, runner: FakeRunner, program: Program, fault: str
) -> None:
    other = FakeRunner(plane, "other")
    await other.connect()
    other_program = await other.start_program()
    stream = program.stream
    assert stream is not None
    if fault == "kind":
        runner.frame(9, stream, b"")
    elif fault == "ack":
        runner.frame(mux.Kind.ACK, stream, mux.pack_ack(0, 0))
    elif fault == "input ack":
        runner.frame(mux.Kind.INPUT_ACK, stream, b"1234")
    elif fault == "short":
        runner.endpoint.send_frame(b"\x82\x81\x01\x02\x03\x04x")
    elif fault == "flags":
        runner.endpoint.send_frame(b"\x82\x88\0\0\0\0\x01\x01\0\0\0\0\0\x01")
    elif fault == "gap elsewhere":
        runner.say(LinkGap(stream=stream, from_=5, to=9))
    else:
        await asyncio.sleep(0)
        for _ in range(1 + MIB // 65_000):
            runner.frame(mux.Kind.OUTPUT, stream, bytes(65_000))

    assert (await runner.hear(Error)).code == "bad_message"
    assert (await runner.until_closed())[0] == 1008
    await happens(lambda: plane.session(program.session_id).state is State.AWAY)
    assert plane.session(program.session_id).head <= MIB
    other_program.print(b"still here")
    await has(plane, other_program)
    # And it may come back.
    program.output = bytearray(plane.session(program.session_id).head)
    await runner.connect()
    program.print(b"back again")
    await has(plane, program)


async def test_output_cannot_be_lost_before_its_program_has_started(plane: Plane, runner: FakeRunner) -> None:
    runner.on_start = lambda asked: runner.say(LinkGap(stream=asked.stream, from_=0, to=1 << 40))
    with pytest.raises(RunnerAway):
        await runner.start_program()

    assert (await runner.hear(Error)).code == "bad_message"
    assert (await runner.until_closed())[0] == 1008
    assert list(plane.registry.describe_sessions()) == []


async def test_a_runner_that_complains_without_end_does_not_fill_the_log(
    plane: Plane, runner: FakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2 * MAX_COMPLAINTS):
        runner.say(Error(code="internal", message=f"complaint {number}"))
    await runner.round_trip()

    assert caplog.text.count("complaint ") == MAX_COMPLAINTS
    assert caplog.text.count("no more of this is logged") == 1


async def test_late_frames_of_streams_that_are_not_open_are_ignored(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    for stream in (0, 77, 2**32 - 1):
        runner.frame(mux.Kind.OUTPUT, stream, b"late")
        runner.frame(mux.Kind.INPUT_ACK, stream, mux.pack_offset(10**9))
        runner.say(Exited(stream=stream, offset=0, exit_code=0, signal=None))
        runner.say(LinkGap(stream=stream, from_=5, to=9))
        runner.say(StartNotDone(session_id="0" * 32, stream=stream, code="x", message="y"))
    program.print(b"still here")
    await has(plane, program)

    assert runner.closed is None


async def test_a_start_that_failed_afterwards_does_not_stop_what_runs(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    assert program.stream is not None
    runner.say(
        StartNotDone(session_id=program.session_id, stream=program.stream, code="start_failed", message="no")
    )
    program.print(b"still here")
    await has(plane, program)

    await runner.until(lambda: program.acked == 10)


# --- output ---------------------------------------------------------------------------------------


async def test_what_is_in_the_log_may_be_forgotten(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    program.print(b"x" * 1000)

    await runner.until(lambda: program.acked == 1000)
    assert program.limit == 1000 + MIB


async def test_streams_of_one_link_do_not_mix(plane: Plane, runner: FakeRunner) -> None:
    programs = [await runner.start_program() for _ in range(5)]
    for _ in range(20):
        for program in programs:
            program.print(os.urandom(5000))
    for program in programs:
        await has(plane, program)
        session = plane.session(program.session_id)
        assert (await session.read_output(0, MIB))[1] == program.output


async def test_a_gap_that_the_runner_tells_is_a_gap_of_the_session(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    program.print(b"before")
    assert program.stream is not None
    for stop in (100, 200):
        runner.say(LinkGap(stream=program.stream, from_=program.sent, to=stop))
        program.output += bytes(stop - program.sent)
        program.sent = stop
        program.print(b"after")
    await has(plane, program)
    await runner.until(lambda: program.acked == 205)

    session = plane.session(program.session_id)
    assert await session.read_output(6, MIB) == (100, b"after")
    assert await session.read_output(105, MIB) == (200, b"after")


async def test_after_a_gap_the_runner_may_still_send_what_it_was_promised(
    plane: Plane, runner: FakeRunner, program: Program, disk: Disk
) -> None:
    disk.answers.clear()
    async with attached(plane, program.session_id) as viewer:
        program.print(bytes(MIB))
        await viewer.read_to(MIB)
        await runner.until(lambda: program.limit == 2 * MIB)
    # The viewer that set the pace has gone and the log has nothing yet, but a promise stands.
    await happens(lambda: plane.session(program.session_id).describe().viewers == 0)
    assert program.stream is not None
    runner.say(LinkGap(stream=program.stream, from_=program.sent, to=program.sent + 10))
    program.output += bytes(10)
    program.sent += 10
    program.print(bytes(program.limit - program.sent))
    await has(plane, program)
    disk.answers.set()

    assert runner.closed is None
    await runner.until(lambda: program.acked == 2 * MIB)


async def test_output_that_never_came_before_an_exit_is_a_gap(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id) as viewer:
        program.print(b"before")
        await viewer.read_to(6)
        assert program.stream is not None
        runner.say(Exited(stream=program.stream, offset=10, exit_code=0, signal=None))
        await viewer.hear("session_ended")

        assert viewer.gaps == [(6, 10)]


# --- the next link --------------------------------------------------------------------------------


async def resumed(runner: FakeRunner, program: Program) -> Any:
    registered = await runner.connect()
    (answer,) = registered.sessions
    assert answer.session_id == program.session_id
    return answer


async def test_a_link_that_comes_back_goes_on_where_hq_is(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id) as viewer:
        program.print(b"before ")
        await viewer.read_to(7)
        await runner.disconnect()
        program.output += b"meanwhile "

        assert (await resumed(runner, program)).from_ == 7
        program.print(b"after")
        await viewer.read_to(22)
        assert viewer.output == b"before meanwhile after"


async def test_what_nobody_has_any_more_is_a_gap(plane: Plane, runner: FakeRunner, program: Program) -> None:
    async with attached(plane, program.session_id) as viewer:
        program.print(b"before")
        await viewer.read_to(6)
        await runner.disconnect()
        program.output += os.urandom(1000)
        program.base = 500

        assert (await resumed(runner, program)).from_ == 500
        await viewer.read_to(1006)
        assert viewer.gaps == [(6, 500)]
        assert viewer.shown[500:] == program.output[500:]
        await runner.until(lambda: program.acked == 1006)


async def test_a_runner_that_has_less_than_hq_is_skipped_until_it_is_there_again(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id) as viewer:
        program.print(b"0123456789")
        await viewer.read_to(10)
        await runner.disconnect()
        del program.output[4:]

        assert (await resumed(runner, program)).from_ == 4
        program.print(b"4567")
        program.print(b"89new")
        await viewer.read_to(13)
        assert viewer.output == b"0123456789new"


async def test_input_goes_on_where_the_program_is(plane: Plane, runner: FakeRunner, program: Program) -> None:
    async with attached(plane, program.session_id) as viewer:
        program.reads = False
        await viewer.type(b"0123456789")
        await runner.until(lambda: len(program.typed) == 10)
        await runner.disconnect()
        # Only this much had reached the PTY, and nobody at HQ had been told.
        del program.typed[4:]
        program.reads = True

        assert (await resumed(runner, program)).input == 4
        await runner.until(lambda: program.typed == b"0123456789")


async def test_input_that_the_link_does_not_take_waits_and_all_sessions_take_turns(plane: Plane) -> None:
    sent: list[tuple[int, bytes]] = []

    def take(data: bytes) -> None:
        frame = mux.unpack(memoryview(data))
        sent.append((frame.stream, bytes(frame.data)))

    endpoint = MemoryEndpoint(lambda text: None, take)
    endpoint.budget = 1
    link = RunnerLink(endpoint, plane.registry, plane.metrics)  # type: ignore[arg-type]
    typed = {stream: os.urandom(3 * mux.MAX_DATA_BYTES) for stream in (1, 2, 3)}
    for stream, data in typed.items():
        queue = InputQueue()
        queue.take(data, 0.0)
        link.send_input(StreamId(stream), queue)
    assert len(sent) == 1  # what waits lies with its session and not, once more, in the transport

    for _ in range(9):
        endpoint.budget = 1
        link.on_writable()

    assert [stream for stream, _ in sent] == [1, 1, 2, 3, 1, 2, 3, 2, 3]
    for stream, data in typed.items():
        assert b"".join(piece for at, piece in sent if at == stream) == data
    link.on_closed(1006, "")


def output_of(programs: list[Program], data: bytes) -> bytearray:
    """Give the frames that bring the same output of all programs."""
    masks = fastpath.MaskSource()
    return bytearray(
        b"".join(
            fastpath.pack_frame(mux.Kind.OUTPUT, program.stream or 0, data, masks) for program in programs
        )
    )


async def test_output_of_many_sessions_is_passed_on_in_turns(
    plane: Plane, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_link, "PASSED_ON_A_TURN", 2)
    programs = [await runner.start_program() for _ in range(5)]
    sessions = [plane.session(program.session_id) for program in programs]
    link = plane.registry.runner("box").link
    assert link is not None

    def heads() -> list[int]:
        return [session.head for session in sessions]

    buffer = output_of(programs, b"first")
    assert link._receive_fast(buffer, 0, len(buffer))[0] == len(buffer)
    assert heads() == [5, 5, 0, 0, 0]
    buffer = output_of(programs[:1], b"more")
    link._receive_fast(buffer, 0, len(buffer))
    assert heads() == [5, 5, 5, 5, 0]
    await happens(lambda: heads() == [9, 5, 5, 5, 5])

    buffer = output_of(programs, b"last")
    link._receive_fast(buffer, 0, len(buffer))
    assert heads() == [13, 9, 5, 5, 5]
    stream = programs[4].stream
    assert stream is not None
    link.on_text(encode(Exited(stream=stream, offset=9, exit_code=0, signal=None)))
    assert heads() == [13, 9, 9, 9, 9], "what comes before an exit is known before it"
    assert sessions[4].state is State.ENDED
    assert await sessions[4].read_output(0, MIB) == (0, b"firstlast")


async def test_output_that_waits_for_its_turn_outlives_its_link(
    plane: Plane, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_link, "PASSED_ON_A_TURN", 1)
    programs = [await runner.start_program() for _ in range(3)]
    link = plane.registry.runner("box").link
    assert link is not None
    buffer = output_of(programs, b"whole")
    link._receive_fast(buffer, 0, len(buffer))
    link.close_stream(StreamId(programs[1].stream or 0))
    assert plane.session(programs[1].session_id).head == 5
    link.fence()
    assert [plane.session(program.session_id).head for program in programs] == [5, 5, 5]


async def test_a_newer_link_replaces_the_older_and_nothing_of_the_older_counts(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    stream = program.stream
    assert stream is not None
    program.print(b"before ")
    await has(plane, program)
    newer = FakeRunner(plane)
    newer.programs = runner.programs
    runner.programs = {}
    program._runner = newer
    await newer.connect()

    # These were on their way; then the older link hears that it is over.
    for kind, data in [(mux.Kind.OUTPUT, b"late"), (mux.Kind.INPUT_ACK, mux.pack_offset(99)), (9, b"")]:
        runner.frame(kind, stream, data)
    runner.say(Exited(stream=stream, offset=11, exit_code=0, signal=None))
    assert (await runner.until_closed())[0] == 4000
    program.print(b"after")
    await has(plane, program)

    session = plane.session(program.session_id)
    assert await session.read_output(0, MIB) == (0, b"before after")
    assert session.state is State.RUNNING
    (info,) = plane.registry.describe_runners()
    assert info.online


async def test_another_of_the_same_name_is_refused_while_the_first_is_connected(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    await runner.disconnect()
    await runner.dial()
    runner.register(instance="first")
    await runner.hear(Registered)
    other = FakeRunner(plane)
    await other.dial()
    other.register(instance="second", hostname="elsewhere")
    refused = await other.hear(Error)
    assert refused.code == "runner_id_in_use"
    assert "box.local" in refused.message
    assert (await other.until_closed())[0] == 1008

    program.print(b"unharmed")
    await has(plane, program)
    await runner.disconnect()
    await other.dial()
    other.register(instance="second", hostname="elsewhere")
    await other.hear(Registered)
    (info,) = plane.registry.describe_runners()
    assert (info.hostname, info.online) == ("elsewhere", True)


@pytest.mark.parametrize(("before", "after"), [("same", "same"), ("", "new"), ("old", "")])
async def test_an_older_link_gives_way_to_what_may_be_the_same_runner(
    plane: Plane, before: str, after: str
) -> None:
    older, newer = FakeRunner(plane), FakeRunner(plane)
    await older.dial()
    older.register(instance=before)
    await older.hear(Registered)
    await newer.dial()
    newer.register(instance=after)
    await newer.hear(Registered)
    assert (await older.until_closed())[0] == 4000


async def test_a_newer_link_does_not_wait_for_an_older_one_that_is_dead(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    # It is there, reads nothing and answers nothing.
    runner.endpoint.transport.pause_reading()
    newer = FakeRunner(plane)
    newer.programs, runner.programs = runner.programs, {}
    program._runner = newer

    await newer.connect()
    program.print(b"at once")
    await has(plane, program)
    runner.endpoint.abort()


async def test_an_older_link_that_ends_later_does_not_take_the_newer_with_it(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    newer = FakeRunner(plane)
    newer.programs, runner.programs = runner.programs, {}
    program._runner = newer
    await newer.connect()
    await runner.until_closed()
    await happens(lambda: len(plane.state.connections) == 1)

    assert plane.registry.describe_runners()[0].online
    assert plane.session(program.session_id).state is State.RUNNING


async def test_size_and_stop_that_were_asked_for_meanwhile_reach_the_next_link(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    await runner.disconnect()
    plane.session(program.session_id).resize(rows=50, cols=132)
    plane.registry.delete_session(program.session_id)
    await runner.connect()

    resize = await runner.hear(StreamResize)
    assert (resize.rows, resize.cols) == (50, 132)
    await runner.hear(Stop)


async def test_many_sessions_come_back_at_once(plane: Plane, runner: FakeRunner) -> None:
    programs = [await runner.start_program() for _ in range(50)]
    for program in programs:
        program.print(b"before ")
    for program in programs:
        await has(plane, program)
    await runner.disconnect()
    for program in programs:
        program.output += b"meanwhile"

    assert len((await runner.connect()).sessions) == 50
    for program in programs:
        await has(plane, program)
        session = plane.session(program.session_id)
        assert await session.read_output(0, MIB) == (0, b"before meanwhile")


async def test_the_token_is_not_enough_to_be_another_runners_session(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    other = FakeRunner(plane, "other")
    await other.dial()
    other.register(sessions=[program.held()])

    assert (await other.hear(Registered)).sessions == []
    program.print(b"still mine")
    await has(plane, program)


async def test_two_sockets_of_which_one_never_registers(plane: Plane, runner: FakeRunner) -> None:
    silent = await dial(plane.url("/ws/runner"), token=RUNNER, handler=FakeRunner(plane))

    assert (await runner.start_program()).stream is not None
    silent.abort()


async def test_a_storm_of_sizes_and_signals_comes_to_the_last_size_and_few_signals(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    session = plane.session(program.session_id)
    for number in range(1, 501):
        session.resize(rows=10, cols=number)
        session.send_signal("WINCH")
        session.send_signal("usr1")
    asked = [
        await runner.hear(StreamResize, cols=500),
        await runner.hear(StreamSignal, name="usr1"),
        await runner.hear(StreamSignal, name="WINCH"),
    ]
    assert {message.stream for message in asked} == {program.stream}
    storm = [message for message in runner.heard if isinstance(message, StreamResize | StreamSignal)]
    assert len(storm) <= 6
