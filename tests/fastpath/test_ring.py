"""Rings of memory of their own: what is in them, what may be written, and how long it can be read."""

import gc
import mmap
import os
import pty
import random
import signal
import sys
import weakref
from collections.abc import Callable
from contextlib import closing
from types import ModuleType

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

CAPACITY = 65_536
GUARD = 16_384
FREE = 2**63 - 1

# Sizes that matter: nothing, a few bytes, around the guard and the capacity, and anything.
sizes = st.sampled_from([0, 1, 3, 4095, 4096, CAPACITY - 1, CAPACITY, CAPACITY + 1]) | st.integers(
    0, CAPACITY
)


class RingModel(RuleBasedStateMachine):
    """A ring beside a bytearray that forgets nothing.

    In shared memory a second object reads what the first one writes, and now and then the writer is killed.
    """

    def __init__(self, fastpath: ModuleType, *, offset: int = 0, memory_fd: int | None = None) -> None:
        super().__init__()
        self.fastpath = fastpath
        self.memory_fd = memory_fd
        if memory_fd is None:
            self.ring = self.reader = fastpath.ByteRing(CAPACITY, offset=offset)
            self.usable = CAPACITY
            self.keep = FREE
        else:
            self.ring = fastpath.ByteRing.shared(memory_fd)
            self.reader = fastpath.ByteRing.shared(memory_fd)
            assert self.ring.recover() == 0
            self.usable = self.ring.capacity_bytes - GUARD
            self.keep = 0
            self.ring.restart(offset)
            self.keep = offset
            self.memory = mmap.mmap(memory_fd, 4096 + self.ring.capacity_bytes)
        self.origin = offset  # the model's first byte
        self.first = offset  # before it nothing can be read: restart and release_memory
        self.written = bytearray()
        self.random = random.Random(1)

    @property
    def head(self) -> int:
        return self.origin + len(self.written)

    @property
    def base(self) -> int:
        return max(self.first, self.head - self.usable)

    @property
    def room(self) -> int:
        return self.usable - (self.head - min(max(self.keep, self.base), self.head))

    def bytes_at(self, start: int, end: int) -> bytes:
        return bytes(self.written[start - self.origin : end - self.origin])

    @rule(n_bytes=sizes)
    def append(self, n_bytes: int) -> None:
        data = self.random.randbytes(n_bytes)
        if n_bytes > self.room:
            with pytest.raises(BufferError):
                self.ring.append(data)
        else:
            self.ring.append(data)
            self.written += data

    @rule(n_bytes=sizes)
    def read_fd(self, n_bytes: int) -> None:
        reader, writer = os.pipe()
        try:
            os.set_blocking(reader, False)
            os.set_blocking(writer, False)
            sent = self.random.randbytes(min(n_bytes, 65_536))
            if sent:
                assert os.write(writer, sent) == len(sent)
            got = 0
            while n := self.ring.read_fd(reader, 40_000):
                assert n <= min(40_000, self.room)
                self.written += sent[got : got + n]
                got += n
            assert got == len(sent) or self.room == 0
            assert not self.ring.eof
        finally:
            os.close(reader)
            os.close(writer)

    @rule(start=st.floats(0, 1), end=st.floats(0, 1))
    def view(self, start: float, end: float) -> None:
        from_, to = sorted(self.base + int(part * (self.head - self.base)) for part in (start, end))
        view = self.ring.view(from_, to)
        assert view.readonly
        assert view == self.bytes_at(from_, to)

    @rule(back=sizes)
    def set_keep(self, back: int) -> None:
        self.keep = max(0, self.head - back)
        self.ring.keep = self.keep

    @rule()
    def free(self) -> None:
        self.ring.keep = self.keep = FREE

    @rule(offset=st.integers(0, 2**40))
    def restart(self, offset: int) -> None:
        self.ring.restart(offset)
        self.written.clear()
        self.origin = self.first = offset
        if self.keep != FREE:
            self.keep = offset

    @rule()
    def release_memory(self) -> None:
        if max(self.keep, self.base) < self.head:
            with pytest.raises(BufferError):
                self.ring.release_memory()
        else:
            self.ring.release_memory()
            self.first = self.head

    @precondition(lambda self: self.memory_fd is not None)
    @rule(n_bytes=sizes)
    def take_over_from_a_killed_writer(self, n_bytes: int) -> None:
        found = self.random.randbytes(min(n_bytes, GUARD, self.room)).rstrip(b"\xff")
        for i, byte in enumerate(found):
            at = (self.head + i) % self.ring.capacity_bytes
            self.memory[4096 + at] = byte
        self.ring.close()
        self.ring = self.fastpath.ByteRing.shared(self.memory_fd)
        assert self.ring.recover() == len(found)
        assert self.ring.recover() == 0
        self.written += found

    @precondition(lambda self: self.base < self.head)
    @rule()
    def look_over_the_edges(self) -> None:
        for start, end in (
            (self.base - 1, self.head),
            (self.base, self.head + 1),
            (self.head, self.base),
            (self.head - self.usable - 1, self.head),
        ):
            with pytest.raises(IndexError):
                self.ring.view(start, end)

    @invariant()
    def agrees(self) -> None:
        assert self.reader.head == self.head
        assert self.reader.base == self.base
        assert self.reader.keep == self.keep
        assert self.reader.room_bytes == self.room
        assert self.reader.view(self.base, self.head) == self.bytes_at(self.base, self.head)
        if self.memory_fd is not None:
            at = self.head % self.ring.capacity_bytes
            data = self.memory[4096:]
            assert (data + data)[at : at + GUARD].count(0xFF) == GUARD

    def teardown(self) -> None:
        self.ring.close()
        self.reader.close()
        if self.memory_fd is not None:
            self.memory.close()
            os.close(self.memory_fd)


SETTINGS = settings(max_examples=25, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("offset", [0, 1, 2**32 - 5, 2**62 + 12_345])
def test_ring_is_a_bytearray_that_forgets(fastpath: ModuleType, offset: int) -> None:
    class Model(RingModel):
        def __init__(self) -> None:
            super().__init__(fastpath, offset=offset)

    run_state_machine_as_test(Model, settings=SETTINGS)


@pytest.mark.parametrize("offset", [0, 262_143, 2**62 + 12_345])
def test_shared_ring_is_a_bytearray_that_forgets(
    fastpath: ModuleType, make_ring_memory: Callable[[int], int], offset: int
) -> None:
    class Model(RingModel):
        def __init__(self) -> None:
            super().__init__(fastpath, offset=offset, memory_fd=make_ring_memory(262_144))

    run_state_machine_as_test(Model, settings=SETTINGS)


# ---- Making


@pytest.mark.parametrize("capacity_bytes", [-1, 0, 1, 4096, 32_768, 65_535, 65_537, 98_304, 2**31, 2**62])
def test_refuses_other_sizes(fastpath: ModuleType, capacity_bytes: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        fastpath.ByteRing(capacity_bytes)


def test_refuses_negative_numbers(fastpath: ModuleType) -> None:
    with pytest.raises(ValueError, match="offset"):
        fastpath.ByteRing(CAPACITY, offset=-1)
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        with pytest.raises(ValueError, match="keep"):
            ring.keep = -1
        with pytest.raises(ValueError, match="input_applied"):
            ring.input_applied = -1
        with pytest.raises(ValueError, match="offset"):
            ring.restart(-1)
        with pytest.raises(ValueError, match="max_bytes"):
            ring.read_fd(0, -1)


def test_holds_no_descriptor(fastpath: ModuleType) -> None:
    before = os.listdir("/proc/self/fd")
    with closing(fastpath.ByteRing(CAPACITY)):
        assert os.listdir("/proc/self/fd") == before


def test_works_without_memfd(fastpath: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    before = os.listdir("/proc/self/fd")
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        assert os.listdir("/proc/self/fd") == before
        ring.append(b"a" * CAPACITY)
        ring.append(b"b" * 100)
        assert ring.view(CAPACITY - 100, CAPACITY + 100) == b"a" * 100 + b"b" * 100
        ring.release_memory()
        ring.append(b"c")
        assert ring.view(CAPACITY + 100, CAPACITY + 101) == b"c"


# ---- Views and closing


def test_views_stay_good_after_close(fastpath: ModuleType) -> None:
    ring = fastpath.ByteRing(CAPACITY)
    ring.append(b"x" * (CAPACITY - 3))
    ring.append(b"abcdef")
    view = ring.view(CAPACITY - 3, CAPACITY + 3)
    part = view[2:4]
    ring.close()
    del ring
    gc.collect()
    assert view == b"abcdef"
    view.release()
    assert part == b"cd"


def test_a_closed_ring_refuses_everything(fastpath: ModuleType) -> None:
    ring = fastpath.ByteRing(CAPACITY)
    ring.append(b"abc")
    ring.close()
    ring.close()
    assert (ring.capacity_bytes, ring.eof) == (CAPACITY, False)
    for name in ("head", "base", "keep", "room_bytes", "input_applied"):
        with pytest.raises(ValueError, match="closed"):
            getattr(ring, name)
    for name in ("keep", "input_applied"):
        with pytest.raises(ValueError, match="closed"):
            setattr(ring, name, 0)
    masks = fastpath.MaskSource()
    calls: list[Callable[[], object]] = [
        lambda: ring.append(b""),
        lambda: ring.view(0, 0),
        lambda: ring.read_fd(0, 10),
        lambda: ring.recover(),
        lambda: ring.restart(0),
        lambda: ring.release_memory(),
        lambda: fastpath.pack_output(bytearray(100), 0, ring, 0, 0, 1, masks),
        lambda: fastpath.write_frames(0, ring, 0, 1, 1),
        lambda: fastpath.MuxReceiver(masked=True, max_payload_bytes=1).open(1, ring, None),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()


def test_an_object_that_was_never_made_is_closed() -> None:
    from agentrelay._fastpath import ByteRing

    ring = ByteRing.__new__(ByteRing)
    with pytest.raises(ValueError, match="closed"):
        _ = ring.head
    with pytest.raises(ValueError, match="closed"):
        ring.append(b"x")
    ring.close()


def test_memory_goes_with_the_last_view() -> None:
    from agentrelay._fastpath import ByteRing

    def mapped() -> int:
        with open("/proc/self/maps") as maps:
            return sum("agentrelay-ring" in line for line in maps)

    before = mapped()
    ring = ByteRing(CAPACITY)
    assert mapped() == before + 2
    ring.append(b"abc")
    view = ring.view(0, 3)
    ring.close()
    assert mapped() == before + 2
    del view
    assert mapped() == before


def test_making_it_again_leaves_old_views_alone(fastpath: ModuleType) -> None:
    ring = fastpath.ByteRing(CAPACITY)
    ring.append(b"abc")
    view = ring.view(0, 3)
    ring.__init__(2 * CAPACITY)
    assert view == b"abc"
    assert (ring.head, ring.capacity_bytes) == (0, 2 * CAPACITY)
    ring.close()


# ---- append


def test_appends_any_buffer_and_only_buffers(fastpath: ModuleType) -> None:
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        for data in (b"ab", bytearray(b"cd"), memoryview(b"ef")):
            ring.append(data)
        assert ring.view(0, 6) == b"abcdef"
        with pytest.raises(TypeError):
            ring.append("text")
        with pytest.raises(BufferError):
            ring.append(memoryview(b"abcd")[::2])
        assert ring.head == 6


# ---- read_fd


def test_end_of_file(fastpath: ModuleType) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        assert ring.read_fd(reader, 100) == 0
        assert not ring.eof
        os.write(writer, b"x" * 3000 + b"last words")
        os.close(writer)
        assert ring.read_fd(reader, 3000) == 3000
        assert ring.read_fd(reader, 3000) == 10
        # A short read ends the drain: the read that would give nothing was not made.
        assert not ring.eof
        assert ring.read_fd(reader, 3000) == 0
        assert ring.eof
        ring.restart(0)
        assert not ring.eof
    os.close(reader)


def test_reads_on_after_a_long_read(fastpath: ModuleType) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.write(writer, b"x" * 2048)
    os.close(writer)
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        assert ring.read_fd(reader, 3000) == 2048
        assert ring.eof
    os.close(reader)


def test_a_pty_without_a_program_is_at_its_end(fastpath: ModuleType) -> None:
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        os.write(slave, b"bye")
        assert ring.read_fd(master, 100) == 3
        os.close(slave)
        assert ring.read_fd(master, 100) == 0
        assert ring.eof
        assert ring.view(0, 3) == b"bye"
    os.close(master)


def test_reads_no_more_than_asked_and_than_fits(fastpath: ModuleType) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.write(writer, bytes(65_536))
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        assert ring.read_fd(reader, 0) == 0
        assert ring.read_fd(reader, 10) == 10
        ring.keep = 0
        ring.append(bytes(ring.room_bytes - 7))
        assert ring.read_fd(reader, 1000) == 7
        assert ring.read_fd(reader, 1000) == 0
        assert not ring.eof
    os.close(reader)
    os.close(writer)


def test_other_errors_are_raised(fastpath: ModuleType) -> None:
    reader, writer = os.pipe()
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        with pytest.raises(OSError, match="Bad file descriptor"):
            ring.read_fd(writer, 10)
        with pytest.raises(OSError, match="Bad file descriptor"):
            ring.read_fd(-1, 10)
        assert not ring.eof
    os.close(reader)
    os.close(writer)


# ---- Python code in the middle of a call


def test_a_signal_handler_may_close_the_ring() -> None:
    from agentrelay._fastpath import ByteRing

    # A blocking read of an empty pipe, so that the signal comes in the middle of it (or just before).
    reader, writer = os.pipe()
    ring = ByteRing(CAPACITY)
    before = signal.signal(signal.SIGALRM, lambda *_: ring.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(ValueError, match="closed"):
            ring.read_fd(reader, 10)
    finally:
        signal.signal(signal.SIGALRM, before)
        os.close(reader)
        os.close(writer)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes cannot be buffers yet")
def test_a_buffer_may_close_the_ring(fastpath: ModuleType) -> None:
    class Hostile:
        def __init__(self, data: bytes | bytearray) -> None:
            self.ring = fastpath.ByteRing(CAPACITY)
            self.ring.append(b"abc")
            self.data = data

        def __buffer__(self, flags: int) -> memoryview:
            self.ring.close()
            return memoryview(self.data)

    hostile = Hostile(b"data")
    with pytest.raises(ValueError, match="closed"):
        hostile.ring.append(hostile)
    hostile = Hostile(bytearray(100))
    with pytest.raises(ValueError, match="closed"):
        fastpath.pack_output(hostile, 0, hostile.ring, 0, 3, 1, fastpath.MaskSource())
    hostile = Hostile(fastpath.pack_frame(1, 7, b"data", None))
    receiver = fastpath.MuxReceiver(masked=False, max_payload_bytes=100)
    receiver.open(7, hostile.ring, "tag")
    assert receiver.receive(hostile, 0, len(hostile.data)) == (0, fastpath.SLOW)


# ---- release_memory


def resident_kib() -> int:
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Pss_Shmem:"))


def test_gives_its_pages_back(fastpath: ModuleType) -> None:
    with closing(fastpath.ByteRing(1 << 24)) as ring:
        before = resident_kib()
        ring.append(b"x" * (1 << 24))
        ring.append(b"y" * 70_000)
        assert resident_kib() - before > 16_000
        ring.release_memory()
        assert resident_kib() - before < 100
        assert ring.base == ring.head == (1 << 24) + 70_000
        ring.append(b"again")
        assert ring.view(ring.base, ring.head) == b"again"


def test_keeps_what_must_be_kept(fastpath: ModuleType) -> None:
    with closing(fastpath.ByteRing(CAPACITY)) as ring:
        ring.append(b"abc")
        ring.keep = 2
        with pytest.raises(BufferError, match="must be kept"):
            ring.release_memory()
        assert ring.view(0, 3) == b"abc"
        ring.keep = 3
        ring.release_memory()
        assert ring.base == 3


# ---- References


def test_a_receiver_with_a_ring_in_a_cycle_is_collected() -> None:
    from agentrelay._fastpath import ByteRing, MuxReceiver

    class Session:
        receiver: MuxReceiver["Session"]

    session = Session()
    session.receiver = MuxReceiver(masked=True, max_payload_bytes=100)
    session.receiver.open(1, ByteRing(CAPACITY), session)
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None
