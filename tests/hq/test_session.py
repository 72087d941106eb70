"""Session: its states, who controls it, what the runner may send and forget, and what comes after a break."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrelay.errors import LimitReached, NotInControl, ProtocolError, RunnerAway, SessionOver
from agentrelay.hq.input_queue import WINDOW_BYTES as INPUT_WINDOW_BYTES
from agentrelay.hq.session import (
    INPUT_KEYS,
    MAX_UNLOGGED_GAPS,
    MOST_INPUT_BYTES,
    QUIET_S,
    RING_BYTES,
    TRANSITIONS,
    Session,
    State,
)
from agentrelay.protocol.pace import GRANT_BYTES, STALL_S, WINDOW_BYTES
from tests.hq.fakes import FakeFollower, Rig, joined

MIB = 1 << 20


@pytest.fixture
def rig() -> Rig:
    return Rig()


def read(session: Session, start: int, max_bytes: int = 1 << 30) -> tuple[int, bytes]:
    return asyncio.run(session.read_output(start, max_bytes))


# --- states ---------------------------------------------------------------------------------------

EVENTS: dict[str, Callable[[Rig], object]] = {
    "started": lambda rig: rig.start(),
    "link lost": lambda rig: rig.lose_link(),
    "came back": lambda rig: rig.come_back(),
    "not held": lambda rig: rig.session.give_up("it is not held"),
    "exited": lambda rig: rig.session.on_exited(exit_code=0, signal=None),
}
WAYS: dict[State, list[str]] = {
    State.STARTING: [],
    State.RUNNING: ["started"],
    State.AWAY: ["started", "link lost"],
    State.ENDED: ["started", "exited"],
    State.LOST: ["started", "link lost", "not held"],
}
NEXT = [
    (State.STARTING, "started", State.RUNNING),
    (State.STARTING, "not held", State.LOST),
    (State.STARTING, "exited", State.ENDED),
    (State.RUNNING, "link lost", State.AWAY),
    (State.RUNNING, "came back", State.RUNNING),
    (State.RUNNING, "not held", State.LOST),
    (State.RUNNING, "exited", State.ENDED),
    (State.AWAY, "came back", State.RUNNING),
    (State.AWAY, "not held", State.LOST),
    (State.AWAY, "exited", State.ENDED),
    (State.LOST, "came back", State.RUNNING),
    (State.LOST, "not held", State.LOST),
    (State.LOST, "exited", State.ENDED),
    (State.ENDED, "not held", State.ENDED),
    (State.ENDED, "link lost", State.ENDED),
    (State.ENDED, "exited", State.ENDED),
]


@pytest.mark.parametrize(("before", "event", "after"), NEXT)
def test_what_can_happen_in_each_state(before: State, event: str, after: State) -> None:
    rig = Rig(started=False)
    for step in WAYS[before]:
        EVENTS[step](rig)
    assert rig.session.state is before
    told = rig.changes

    EVENTS[event](rig)

    assert rig.session.describe().state == after.value
    assert (rig.changes > told) == (before is not after)
    assert before is after or after in TRANSITIONS[before]


@pytest.mark.parametrize("event", ["started", "came back"])
def test_what_has_ended_never_runs_again(rig: Rig, event: str) -> None:
    rig.session.on_exited(exit_code=3, signal=None)

    with pytest.raises(AssertionError, match="cannot go from ended to running"):
        EVENTS[event](rig)


def test_every_state_of_the_table_is_tried_above() -> None:
    assert {before for before, _, _ in NEXT} == set(TRANSITIONS) == set(State)


def test_the_loss_of_an_older_link_does_not_matter(rig: Rig) -> None:
    older = rig.link
    rig.come_back()

    rig.session.on_link_lost(older)

    assert rig.session.state is State.RUNNING


def test_an_exit_is_told_once_with_its_status(rig: Rig) -> None:
    follower = rig.follow()

    rig.session.on_exited(exit_code=None, signal=9)
    rig.session.on_exited(exit_code=0, signal=None)

    assert follower.heard("ended") == [(None, 9)]
    assert rig.recorder.records[-1] == ("ended", None, 9)
    info = rig.session.describe()
    assert (info.state, info.exit_code, info.signal) == ("ended", None, 9)
    assert info.ended_at is not None


def test_a_session_the_runner_has_lost_is_over_for_its_viewers(rig: Rig) -> None:
    follower = rig.follow()
    rig.lose_link()

    rig.session.give_up("it is not held")

    assert follower.heard("trouble") == [("session_over", "it is not held")]
    assert follower.heard("ended") == [(None, None)]
    assert rig.session.over


def test_a_lost_session_that_comes_back_is_not_over_any_more(rig: Rig) -> None:
    rig.lose_link()
    rig.session.give_up("it is not held")
    rig.come_back()

    info = rig.session.describe()
    assert (info.state, info.ended_at) == ("running", None)


def test_a_new_link_is_told_the_size_and_a_stop_that_was_asked_for(rig: Rig) -> None:
    rig.lose_link()
    rig.session.resize(rows=50, cols=132)
    rig.session.stop()

    assert sorted(rig.come_back().sent) == [("resize", 50, 132), ("stop",)]


# --- control --------------------------------------------------------------------------------------


def test_a_stop_that_was_asked_for_before_the_program_ran_is_told_when_it_does() -> None:
    rig = Rig(started=False)
    rig.session.stop()
    rig.start()

    assert rig.link.sent == [("stop",)]


def test_who_attaches_first_controls(rig: Rig) -> None:
    first, second = rig.follow(), rig.follow()

    assert rig.session.controller is first
    assert first.heard("control") == [(True,)]
    assert second.heard("control") == []


def test_who_does_not_control_can_neither_type_nor_resize(rig: Rig) -> None:
    rig.follow()
    other = rig.follow()

    acts: list[Callable[[], None]] = [
        lambda: rig.session.take_input(other, b"rm"),
        lambda: rig.session.resize(rows=1, cols=1, follower=other),
    ]
    for act in acts:
        with pytest.raises(NotInControl, match="take control first"):
            act()

    assert rig.link.input == []
    assert (rig.session.rows, rig.session.cols) == (24, 80)


def test_taking_control_takes_it_from_the_other_and_tells_both(rig: Rig) -> None:
    first, second = rig.follow(), rig.follow()
    first.told.clear()

    rig.session.take_control(second)
    rig.session.take_control(second)
    rig.session.take_input(second, b"mine")

    assert first.told == [("control", False)]
    assert second.heard("control") == [(True,)]
    with pytest.raises(NotInControl):
        rig.session.take_input(first, b"mine")
    assert rig.link.input == [b"mine"]


@pytest.mark.parametrize("act", ["attach", "type", "resize", "take control"])
def test_control_that_nobody_has_is_taken_by_whoever_acts(rig: Rig, act: str) -> None:
    first, second = rig.follow(), rig.follow()
    rig.session.detach(first)
    assert rig.session.controller is None
    assert second.heard("control") == [(False,)]
    assert (rig.session.rows, rig.session.cols) == (24, 80)

    if act == "attach":
        second = rig.follow()
    elif act == "type":
        rig.session.take_input(second, b"x")
    elif act == "resize":
        rig.session.resize(rows=30, cols=100, follower=second)
    else:
        rig.session.take_control(second)

    assert rig.session.controller is second


def test_whoever_leaves_without_control_changes_nothing(rig: Rig) -> None:
    first, second = rig.follow(), rig.follow()

    rig.session.detach(second)
    rig.session.detach(second)

    assert rig.session.controller is first
    assert rig.session.describe().viewers == 1


def test_nobody_controls_what_is_over(rig: Rig) -> None:
    rig.session.on_exited(exit_code=0, signal=None)

    rig.follow()

    assert rig.session.controller is None


def test_the_api_needs_no_control(rig: Rig) -> None:
    rig.follow()

    rig.session.send_input(b"typed by a program")
    rig.session.resize(rows=30, cols=100)

    assert rig.link.input == [b"typed by a program"]
    assert rig.link.sent == [("resize", 30, 100)]


# --- size, signals, the end -----------------------------------------------------------------------


def test_a_size_goes_to_the_runner_the_log_and_all_viewers_once(rig: Rig) -> None:
    viewers = [rig.follow(), rig.follow()]

    rig.session.resize(rows=30, cols=100, follower=viewers[0])
    rig.session.resize(rows=30, cols=100, follower=viewers[0])

    assert rig.link.sent == [("resize", 30, 100)]
    assert rig.recorder.records == [("resized", 30, 100)]
    assert [viewer.heard("resized") for viewer in viewers] == [[(30, 100)]] * 2
    assert (rig.session.describe().rows, rig.session.describe().cols) == (30, 100)


def test_what_is_told_of_it_as_json_is_always_what_is_told(rig: Rig) -> None:
    def check() -> None:
        assert rig.session.describe_json() == msgspec.json.encode(rig.session.describe())

    check()
    person = rig.follow()
    check()
    rig.output(b"output")
    check()
    rig.recorder.write()
    check()
    rig.session.rename("another")
    check()
    rig.session.resize(rows=30, cols=100, follower=person)
    check()
    rig.session.on_recording_failed("no space")
    check()
    rig.lose_link()
    check()
    rig.session.detach(person)
    check()
    kept = rig.session.describe_json()
    assert rig.session.describe_json() is kept


def test_a_signal_needs_a_link(rig: Rig) -> None:
    rig.session.send_signal("INT")
    assert rig.link.sent == [("signal", "INT")]

    rig.lose_link()
    with pytest.raises(RunnerAway, match="box is not connected"):
        rig.session.send_signal("INT")


@pytest.mark.parametrize("ending", ["exited", "not held"])
def test_what_is_over_takes_nothing(rig: Rig, ending: str) -> None:
    follower = rig.follow()
    EVENTS[ending](rig)
    rig.link.sent.clear()

    acts: list[Callable[[], None]] = [
        lambda: rig.session.take_input(follower, b"x"),
        lambda: rig.session.send_input(b"x"),
        lambda: rig.session.resize(rows=1, cols=1),
        lambda: rig.session.send_signal("INT"),
        lambda: rig.session.stop(),
    ]
    for act in acts:
        with pytest.raises(SessionOver):
            act()
    assert (rig.link.input, rig.link.sent) == ([], [])


# --- pace -----------------------------------------------------------------------------------------


def test_without_viewers_the_runner_may_run_a_window_ahead_of_the_log(rig: Rig) -> None:
    rig.output(bytes(MIB))
    assert rig.session.limit() == WINDOW_BYTES

    rig.recorder.write()

    assert rig.link.acks[-1] == (MIB, MIB + WINDOW_BYTES)


def test_a_viewer_that_keeps_up_sets_the_pace_while_the_disk_is_slow(rig: Rig) -> None:
    rig.follow()

    rig.output(bytes(MIB))

    assert rig.link.acks[-1] == (0, MIB + WINDOW_BYTES), "the runner goes on, and forgets nothing"


def test_the_disk_limits_even_the_fastest_viewer_to_the_ring(rig: Rig) -> None:
    rig.follow()
    for _ in range(3):
        rig.output(bytes(MIB))

    rig.output(bytes(MIB))

    assert rig.session.limit() == RING_BYTES


def test_a_person_who_reads_slowly_slows_the_flood(rig: Rig) -> None:
    person = rig.follow(reading=False)
    rig.output(bytes(MIB))
    rig.recorder.write()
    person.move(300_000)

    assert rig.session.limit() == 300_000 + WINDOW_BYTES
    assert rig.link.acks[-1] == (MIB, 300_000 + WINDOW_BYTES)


def test_a_viewer_that_stalls_stops_counting_after_a_second(rig: Rig) -> None:
    rig.follow(reading=False)
    rig.output(bytes(MIB))
    rig.recorder.write()

    rig.clock.advance(STALL_S - 0.01)
    assert not rig.session.settle()
    assert rig.session.limit() == WINDOW_BYTES
    rig.clock.advance(0.02)
    rig.session.settle()

    assert rig.link.acks[-1] == (MIB, MIB + WINDOW_BYTES)


def test_the_fastest_viewer_that_moves_counts(rig: Rig) -> None:
    rig.follow(reading=False)
    fast = rig.follow(reading=False)
    slow = rig.follow(reading=False)
    rig.output(bytes(MIB))
    rig.recorder.write()
    rig.clock.advance(STALL_S + 1)
    slow.move(100)
    fast.move(700_000)

    assert rig.session.limit() == 700_000 + WINDOW_BYTES


def test_a_viewer_that_claims_to_be_ahead_does_not_set_the_pace(rig: Rig) -> None:
    rig.follow(reading=False).position = 2**62
    slow = rig.follow(reading=False)
    rig.output(b"x" * 1000)
    slow.move(10)

    assert rig.session.limit() == 10 + WINDOW_BYTES


def test_a_viewer_with_nothing_to_read_has_not_stalled(rig: Rig) -> None:
    person = rig.follow(reading=False)
    rig.clock.advance(3600)
    rig.output(bytes(MIB))

    # It has had an hour of quiet, and a second for this output only now begins.
    assert rig.session.limit() == WINDOW_BYTES
    rig.clock.advance(STALL_S / 2)
    person.move(1000)
    rig.clock.advance(STALL_S - 0.01)
    assert rig.session.limit() == 1000 + WINDOW_BYTES


def test_when_a_slow_viewer_leaves_the_runner_hears_at_once(rig: Rig) -> None:
    person = rig.follow(reading=False)
    rig.output(bytes(MIB))
    rig.recorder.write()
    assert rig.link.acks[-1][1] == WINDOW_BYTES

    rig.session.detach(person)

    assert rig.link.acks[-1] == (MIB, MIB + WINDOW_BYTES)


def test_small_steps_are_told_when_it_settles(rig: Rig) -> None:
    rig.follow()
    rig.output(b"$ ")
    rig.recorder.write()
    assert rig.link.acks == []
    assert rig.active > 0, "somebody has to look after it"

    rig.session.settle()

    assert rig.link.acks == [(2, 2 + WINDOW_BYTES)]
    rig.session.settle()
    assert rig.link.acks == [(2, 2 + WINDOW_BYTES)]


def test_a_grant_is_told_at_once(rig: Rig) -> None:
    rig.follow()

    rig.output(bytes(GRANT_BYTES - 1))
    assert rig.link.acks == []
    rig.output(b"x")

    assert rig.link.acks == [(0, GRANT_BYTES + WINDOW_BYTES)]


def test_without_recording_memory_is_what_counts() -> None:
    rig = Rig(recording=False)
    rig.follow(reading=False)
    for _ in range(6):
        rig.output(bytes(MIB))

    assert rig.session.acked == 6 * MIB
    rig.clock.advance(STALL_S + 0.1)
    rig.session.settle()
    assert rig.link.acks[-1] == (6 * MIB, 7 * MIB)


def test_a_disk_that_fails_does_not_stop_the_session(rig: Rig) -> None:
    follower = rig.follow()
    for _ in range(4):
        rig.output(bytes(MIB))
    assert rig.session.limit() == RING_BYTES

    rig.recorder.fail()

    assert follower.heard("trouble") == [("recording_stopped", "recording stopped: the disk is full")]
    assert not rig.session.describe().recording
    assert rig.link.acks[-1] == (4 * MIB, 5 * MIB)
    for _ in range(6):
        rig.output(bytes(MIB))
    assert rig.session.head == 10 * MIB


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["output", "log", "read", "wait", "attach", "detach", "settle", "new link"]),
            st.integers(1, 2 * MIB),
        ),
        max_size=40,
    )
)
def test_whatever_happens_the_runner_is_promised_only_what_can_be_kept(steps: list[tuple[str, int]]) -> None:
    rig = Rig()
    session = rig.session
    followers: list[FakeFollower] = []
    told = WINDOW_BYTES
    for step, number in steps:
        acks = len(rig.link.acks)
        if step == "output":
            n_bytes = min(number, told - session.head)
            if n_bytes > 0:
                rig.output(bytes(n_bytes))  # BufferError: the promise was more than the ring holds
        elif step == "log":
            rig.recorder.write(number)
        elif step == "read" and followers:
            follower = followers[number % len(followers)]
            follower.move(min(session.head, follower.position + number))
        elif step == "wait":
            rig.clock.advance(number / MIB)
        elif step == "attach":
            followers.append(rig.follow(reading=number % 2 == 0))
        elif step == "detach" and followers:
            session.detach(followers.pop(number % len(followers)))
        elif step == "new link":
            rig.lose_link()
            rig.come_back()
            told, acks = session.limit(), 0
        else:
            session.settle()
        for acked, limit in rig.link.acks[acks:]:
            assert acked <= rig.recorder.logged
            assert limit >= told, "a promise was taken back"
            assert limit <= rig.recorder.logged + RING_BYTES
            told = limit
    # Nobody holds the session up for ever: at most a second after the last move, with the log caught up.
    rig.recorder.write()
    rig.clock.advance(STALL_S + 0.1)
    session.settle()
    assert max([told, *(limit for _, limit in rig.link.acks)]) >= session.head + WINDOW_BYTES


# --- gaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("logged", [True, False])
def test_a_gap_is_recorded_and_shown_and_output_goes_on_behind_it(rig: Rig, logged: bool) -> None:
    follower = rig.follow()
    rig.output(b"before")
    if logged:
        rig.recorder.write()

    rig.session.on_gap(6, 100)
    rig.output(b"after")
    rig.recorder.write()

    assert rig.session.head == 105
    assert follower.heard("gap") == [(6, 100)]
    assert rig.recorder.bytes == [*b"before", *[None] * 94, *b"after"]
    assert read(rig.session, 0) == (0, b"before")
    assert read(rig.session, 6) == (100, b"after")
    assert read(rig.session, 105) == (105, b"")


def test_gap_after_gap_before_the_disk_has_answered(rig: Rig) -> None:
    rig.output(b"a")
    rig.session.on_gap(1, 10)
    rig.output(b"b")
    rig.session.on_gap(11, 20)
    rig.output(b"c")
    rig.recorder.write()

    assert rig.recorder.bytes == [ord("a"), *[None] * 9, ord("b"), *[None] * 9, ord("c")]
    rig.session.settle()
    assert rig.link.acks[-1] == (21, 21 + WINDOW_BYTES)


def test_after_a_gap_a_disk_that_has_failed_still_does_not_stop_the_session(rig: Rig) -> None:
    rig.follow()
    rig.output(b"before")
    rig.recorder.fail()

    rig.session.on_gap(6, 100)
    for _ in range(6):
        rig.output(bytes(MIB))  # BufferError: the ring waits for a log that takes no more

    assert rig.session.acked == 100 + 6 * MIB


# --- reading --------------------------------------------------------------------------------------


def test_output_is_read_from_the_log_and_then_from_memory(rig: Rig) -> None:
    stream = b"".join(number.to_bytes(4) for number in range(MIB * 6 // 4))
    for start in range(0, len(stream), MIB):
        rig.output(stream[start : start + MIB])
        rig.recorder.write()
    assert rig.session.ring_base > 0

    assert read(rig.session, 0, 1000) == (0, stream[:1000])
    assert read(rig.session, rig.session.ring_base - 5, 5) == (
        rig.session.ring_base - 5,
        stream[rig.session.ring_base - 5 : rig.session.ring_base],
    )
    assert (
        read(rig.session, rig.session.ring_base + 7, 1000)[1]
        == (stream[rig.session.ring_base + 7 : rig.session.ring_base + 1007])
    )
    assert read(rig.session, len(stream) - 3) == (len(stream) - 3, stream[-3:])
    assert read(rig.session, len(stream)) == (len(stream), b"")


def test_what_the_log_has_deleted_is_skipped(rig: Rig) -> None:
    rig.output(bytes(RING_BYTES))
    rig.recorder.write()
    rig.output(bytes(100))
    rig.recorder.base = 10

    assert rig.session.base == 10
    assert read(rig.session, 3, 2) == (10, b"\0\0")


def test_without_a_log_the_oldest_output_in_memory_is_where_reading_begins() -> None:
    rig = Rig(recording=False)
    rig.output(b"x" * MIB)
    for _ in range(4):
        rig.output(bytes(MIB))

    assert rig.session.base == MIB
    assert read(rig.session, 0, 10) == (MIB, bytes(10))


# --- input ----------------------------------------------------------------------------------------


def test_input_goes_straight_to_the_runner_and_its_amount_into_the_log(rig: Rig) -> None:
    follower = rig.follow()

    rig.session.take_input(follower, b"ls\n")

    assert rig.link.input == [b"ls\n"]
    assert rig.recorder.records == [("input", follower.viewer_id, 3)]


def test_input_typed_while_the_runner_is_away_is_sent_when_it_is_back(rig: Rig) -> None:
    follower = rig.follow()
    rig.session.take_input(follower, b"before ")
    rig.lose_link()
    rig.session.take_input(follower, b"after")
    rig.clock.advance(5)

    assert joined(rig.come_back(applied=4).input) == b"re after"
    assert follower.heard("trouble") == []


def test_old_input_is_dropped_and_the_person_told(rig: Rig) -> None:
    follower = rig.follow()
    rig.lose_link()
    rig.session.take_input(follower, b"rm -rf .\n")
    rig.clock.advance(10.5)
    rig.session.take_input(follower, b"ls\n")

    assert joined(rig.come_back().input) == b"ls\n"
    assert follower.heard("trouble") == [
        ("input_dropped", "9 bytes of input had waited over 10 s for the runner and were dropped")
    ]


def test_a_viewer_whose_input_was_dropped_may_type_again(rig: Rig) -> None:
    follower = rig.follow()
    rig.lose_link()
    rig.session.take_input(follower, bytes(INPUT_WINDOW_BYTES))
    assert rig.session.input.full
    rig.clock.advance(11)

    rig.come_back()

    assert follower.heard("input applied")[-1:] == [(False,)], "nothing is on its way that could say so later"


def test_a_program_that_does_not_read_is_sent_a_window_and_no_more(rig: Rig) -> None:
    follower = rig.follow()
    paste = bytes(range(256)) * 6000
    rig.session.take_input(follower, paste)

    sent = joined(rig.link.input)
    assert INPUT_WINDOW_BYTES <= len(sent) < INPUT_WINDOW_BYTES + (64 << 10)
    rig.session.on_input_applied(1000)
    rig.session.on_input_applied(len(sent))

    assert joined(rig.link.input) == paste
    assert follower.heard("input applied") == [(True,), (False,)]


def test_the_api_cannot_pile_input_up(rig: Rig) -> None:
    rig.lose_link()
    rig.session.send_input(bytes(INPUT_WINDOW_BYTES))

    with pytest.raises(LimitReached, match="has not read"):
        rig.session.send_input(b"more")

    assert rig.session.input.taken == INPUT_WINDOW_BYTES


def test_input_is_counted_for_each_viewer_that_names_itself(rig: Rig) -> None:
    assert rig.session.input_taken("phone") is None
    assert rig.session.count_input("phone", 5) == 5
    assert rig.session.count_input("laptop", 1) == 1
    assert rig.session.count_input("phone", 2) == 7

    assert rig.session.input_taken("phone") == 7


def test_only_so_many_names_are_remembered_and_the_oldest_goes_first(rig: Rig) -> None:
    rig.session.count_input("first", 1)
    rig.session.count_input("second", 1)
    for number in range(INPUT_KEYS - 2):
        rig.session.count_input(str(number), 1)
    rig.session.count_input("first", 1)

    rig.session.count_input("one more", 1)

    assert rig.session.input_taken("first") == 2
    assert rig.session.input_taken("second") is None


def test_output_that_nobody_controls_is_told_with_its_offset(rig: Rig) -> None:
    rig.output(b"asks")
    follower = rig.follow()
    rig.output(b"shown")
    rig.session.detach(follower)
    rig.output(b"again")

    assert rig.unattended == [0, 9]


def test_output_that_the_starting_viewer_will_be_shown_is_not_told(rig: Rig) -> None:
    rig.session.awaits_starter = True
    rig.output(b"asks")
    assert rig.unattended == []

    rig.session.give_up_starter()
    rig.output(b"again")

    assert rig.unattended == [0, 4]


# --- memory ---------------------------------------------------------------------------------------


def test_memory_is_given_back_when_nobody_needs_it(rig: Rig) -> None:
    rig.follow()
    rig.output(bytes(MIB))
    rig.recorder.write()

    rig.session.settle()
    assert rig.session.ring_base == 0, "two seconds have not passed"
    rig.clock.advance(QUIET_S)
    assert rig.session.settle(), "nothing is left to look after"

    assert rig.session.ring_base == MIB
    assert read(rig.session, 0) == (0, bytes(MIB))
    rig.output(b"later")
    assert read(rig.session, MIB) == (MIB, b"later")


@pytest.mark.parametrize("needed_by", ["the log", "a viewer", "memory alone"])
def test_memory_that_somebody_needs_is_kept(needed_by: str) -> None:
    rig = Rig(recording=needed_by != "memory alone")
    if needed_by == "a viewer":
        rig.follow(reading=False)
    rig.output(bytes(MIB))
    if needed_by == "a viewer":
        rig.recorder.write()
    rig.clock.advance(QUIET_S + 1)

    settled = rig.session.settle()

    assert rig.session.ring_base == 0
    assert settled == (needed_by == "memory alone"), "it has to be looked after until it can be given back"


def test_the_ring_of_what_has_ended_goes_when_the_log_has_all_of_it(rig: Rig) -> None:
    viewer = rig.follow(reading=False)
    rig.output(bytes(MIB))
    rig.session.on_exited(exit_code=0, signal=None)
    rig.clock.advance(QUIET_S + 1)
    assert not rig.session.settle()
    rig.recorder.write()
    assert not rig.session.settle()
    viewer.move(MIB)

    assert rig.session.settle()
    assert rig.session.ring is None
    assert read(rig.session, 5, 10) == (5, bytes(10))
    assert (rig.session.base, rig.session.ring_base, rig.session.head) == (0, MIB, MIB)


def test_a_session_without_a_link_is_looked_after_too(rig: Rig) -> None:
    rig.output(bytes(MIB))
    rig.lose_link()
    rig.clock.advance(QUIET_S)
    assert not rig.session.settle()
    rig.recorder.write()

    assert rig.session.settle()
    assert rig.session.ring_base == MIB


def test_many_who_take_control_cannot_fill_memory_with_input() -> None:
    rig = Rig()
    paste = bytes(INPUT_WINDOW_BYTES)
    for number in range(20):
        viewer = rig.follow()
        rig.session.take_control(viewer)
        if number < MOST_INPUT_BYTES // INPUT_WINDOW_BYTES:
            rig.session.take_input(viewer, paste)
        else:
            with pytest.raises(LimitReached, match="4194304 bytes"):
                rig.session.take_input(viewer, paste)
        rig.session.detach(viewer)
    assert rig.session.input.taken == MOST_INPUT_BYTES
    rig.session.on_input_applied(INPUT_WINDOW_BYTES)
    viewer = rig.follow()
    rig.session.take_input(viewer, b"x")


def test_gaps_that_the_log_has_not_got_to_are_bounded() -> None:
    rig = Rig()
    for _ in range(MAX_UNLOGGED_GAPS):
        rig.output(b"x")
        rig.session.on_gap(rig.session.head, rig.session.head + 10)
    rig.output(b"x")
    before = rig.session.head
    with pytest.raises(ProtocolError, match="64 gaps"):
        rig.session.on_gap(before, before + 10)
    assert rig.session.head == before
    rig.recorder.write()
    rig.session.on_gap(before, before + 10)
    for _ in range(100):
        rig.output(b"x")
        rig.session.on_gap(rig.session.head, rig.session.head + 10)
        rig.recorder.write()
