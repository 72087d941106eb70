"""Input queue: every byte typed is applied once and in order, or dropped because it waited too long."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentrelay.hq.input_queue import MARK_EVERY_S, STALE_S, WINDOW_BYTES, InputQueue
from agentrelay.protocol.mux import MAX_DATA_BYTES


def drain(queue: InputQueue) -> bytes:
    """Give everything that may be sent now."""
    sent = b""
    while (data := queue.next_to_send()) is not None:
        assert 0 < len(data) <= MAX_DATA_BYTES
        sent += data
    return sent


def test_input_is_sent_in_order_and_counted() -> None:
    queue = InputQueue()
    queue.take(b"ls", 0.0)
    queue.take(memoryview(b" -l\n"), 0.1)

    assert drain(queue) == b"ls -l\n"
    assert (queue.taken, queue.sent, queue.applied) == (6, 6, 0)
    queue.receive_applied(6)
    assert queue.applied == 6
    assert drain(queue) == b""


def test_a_large_paste_goes_in_frames_up_to_the_window() -> None:
    queue = InputQueue()
    paste = bytes(range(256)) * 8192
    queue.take(paste, 0.0)

    assert queue.full
    first = drain(queue)
    assert first == paste[: len(first)]
    assert WINDOW_BYTES <= len(first) < WINDOW_BYTES + MAX_DATA_BYTES
    queue.receive_applied(len(first))
    assert drain(queue) == paste[len(first) :]
    queue.receive_applied(len(paste))
    assert not queue.full


@pytest.mark.parametrize("offset", [0, 3, 2**63])
def test_a_runner_cannot_apply_what_it_was_not_sent_or_take_it_back(offset: int) -> None:
    queue = InputQueue()
    queue.take(b"abcdef", 0.0)
    drain(queue)
    queue.receive_applied(5)
    queue.take(b"ghi", 0.0)

    queue.receive_applied(offset)

    assert queue.applied == (6 if offset > 6 else 5)
    assert drain(queue) == b"ghi"


def test_what_was_not_applied_is_sent_again_on_the_next_link() -> None:
    queue = InputQueue()
    queue.take(b"abcdef", 0.0)
    drain(queue)

    assert queue.resume(4, 1.0) == 0
    assert queue.sent == 4
    assert drain(queue) == b"ef"


def test_what_has_waited_too_long_is_dropped_and_the_rest_goes_on_behind_it() -> None:
    queue = InputQueue()
    queue.take(b"rm -rf build\n", 0.0)
    drain(queue)
    queue.take(b"ls\n", 9.0)

    assert queue.resume(3, 11.0) == 10
    assert (queue.applied, queue.taken) == (3, 6)
    assert drain(queue) == b"ls\n"
    queue.receive_applied(6)
    assert queue.resume(6, 60.0) == 0


def test_input_keeps_its_age_over_several_links() -> None:
    queue = InputQueue()
    queue.take(b"old\n", 0.0)

    assert queue.resume(0, 6.0) == 0
    drain(queue)
    queue.receive_applied(1)
    assert queue.resume(1, 9.0) == 0
    assert drain(queue) == b"ld\n"

    assert queue.resume(1, 11.0) == 3, (
        "11 s after it was typed it is too old, however often a link came between"
    )
    assert drain(queue) == b""


def test_an_hq_that_restarted_learns_the_count_from_the_runner() -> None:
    queue = InputQueue(counted=False)
    queue.take(b"typed while the runner was away", 0.0)

    assert queue.resume(5000, 1.0) == 0
    assert queue.applied == 5000
    assert drain(queue) == b"typed while the runner was away"
    assert queue.resume(5006, 2.0) == 0
    assert drain(queue) == b"while the runner was away"


class Typing(RuleBasedStateMachine):
    """A person, a queue, a link that breaks and a runner that counts what it has put into the PTY."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = InputQueue()
        self.now_s = 0.0
        self.typed = 0
        self.waiting: list[tuple[int, float]] = []  # number and time of each byte that is not in the PTY
        self.flying: list[int] = []  # on the link
        self.pty: list[int] = []
        self.before = 0  # what the runner had applied before this HQ
        self.linked = True

    @rule(n_bytes=st.integers(1, 40))
    def type_something(self, n_bytes: int) -> None:
        numbers = range(self.typed, self.typed + n_bytes)
        self.queue.take(bytes(number % 251 for number in numbers), self.now_s)
        self.waiting += [(number, self.now_s) for number in numbers]
        self.typed += n_bytes

    @rule(seconds=st.sampled_from([0.01, 0.2, 0.3, 4.0, 6.0, 9.8, 10.1]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.linked)
    @rule()
    def send(self) -> None:
        sent = drain(self.queue)
        known = [number for number, _ in self.waiting]
        left = known[len(self.flying) :]
        assert sent == bytes(number % 251 for number in left), "not exactly what waits, in order"
        self.flying += left

    @precondition(lambda self: self.flying)
    @rule(share=st.floats(0, 1))
    def apply(self, share: float) -> None:
        n_bytes = round(share * len(self.flying))
        self.pty += self.flying[:n_bytes]
        del self.flying[:n_bytes], self.waiting[:n_bytes]
        if self.linked:
            self.queue.receive_applied(self.before + len(self.pty))

    @precondition(lambda self: self.linked)
    @rule()
    def replace_link(self) -> None:
        self.break_link()
        self.come_back()

    @precondition(lambda self: self.linked)
    @rule()
    def break_link(self) -> None:
        # What is on its way may still reach the PTY; HQ hears of it with the next link.
        self.linked = False

    @precondition(lambda self: not self.linked)
    @rule()
    def come_back(self) -> None:
        self.flying = []
        dropped_bytes = self.queue.resume(self.before + len(self.pty), self.now_s)
        dropped, self.waiting = self.waiting[:dropped_bytes], self.waiting[dropped_bytes:]
        assert len(dropped) == dropped_bytes
        assert all(self.now_s - typed_s > STALE_S - MARK_EVERY_S for _, typed_s in dropped), (
            "dropped too early"
        )
        assert all(self.now_s - typed_s <= STALE_S for _, typed_s in self.waiting), "kept too long"
        self.linked = True

    @precondition(lambda self: not self.linked and not self.waiting)
    @rule()
    def restart_hq(self) -> None:
        self.before += len(self.pty)
        self.pty = []
        self.queue = InputQueue(counted=False)

    @invariant()
    def nothing_is_applied_twice_or_out_of_order(self) -> None:
        assert all(before < after for before, after in zip(self.pty, self.pty[1:], strict=False))

    @invariant()
    def the_queue_holds_what_waits(self) -> None:
        if self.linked:
            assert self.queue.taken - self.queue.applied == len(self.waiting)
            assert self.queue.applied <= self.queue.sent <= self.queue.taken


TestTyping = Typing.TestCase
TestTyping.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)
