"""One held session over a real PTY: what is read when, what is written when, and when it is over."""

import asyncio
import contextlib
import os
import signal
import tty
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from agentrelay.fastpath import GUARD_BYTES
from agentrelay.runner import pty as module
from agentrelay.runner.paths import RunnerDirectory
from agentrelay.runner.pty import MAX_INPUT_BYTES, Exit, Facts, PtySession
from agentrelay.runner.read_queue import ReadQueue
from agentrelay.runner.read_turn import ReadTurn
from agentrelay.runner.ring_memory import create_ring_memory
from agentrelay.runner.spawn import spawn

FAR = 1 << 60
RING_BYTES = 131_072
ROOM_BYTES = RING_BYTES - GUARD_BYTES


class Follower:
    """What a link hears."""

    def __init__(self) -> None:
        self.outputs = 0
        self.over = False
        self._changed = asyncio.Condition()

    def on_output(self, n_bytes: int, *, more: bool) -> None:
        self.outputs += 1
        self._notify()

    def on_input_applied(self) -> None:
        self._notify()

    def on_over(self) -> None:
        self.over = True
        self._notify()

    def _notify(self) -> None:
        asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], object], seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: bool(condition()))


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A PTY in raw mode: a non-blocking master and its slave."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    yield master, slave
    os.close(master)
    os.close(slave)


Make = Callable[..., PtySession]


@pytest.fixture
async def make(directory: RunnerDirectory) -> AsyncIterator[Make]:
    """Give a function that makes a session of a copy of a PTY master."""
    sessions: list[PtySession] = []

    def make_session(master: int, *, pid: int = 1 << 30, memory: int | None = None) -> PtySession:
        if memory is None:
            memory = create_ring_memory(RING_BYTES, directory_fd=directory.fd)
        facts = Facts("s", "e", pid, ["program"], "/", RING_BYTES)
        loop = asyncio.get_running_loop()
        session = PtySession(
            facts, master=os.dup(master), memory=memory, turn=ReadTurn(), queue=ReadQueue(loop), loop=loop
        )
        sessions.append(session)
        return session

    yield make_session
    for session in sessions:
        session.close()


@pytest.fixture
def program() -> Iterator[Callable[[str], tuple[int, int]]]:
    """Give a function that runs a shell script on a PTY; it is killed afterwards."""
    running: list[tuple[int, int]] = []

    def run(script: str) -> tuple[int, int]:
        env = {"PATH": os.environ["PATH"]}
        pid, master = spawn(["bash", "--norc", "-c", script], cwd="/", env=env, rows=24, cols=80)
        running.append((pid, master))
        return pid, master

    yield run
    for pid, master in running:
        os.close(master)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def follow(session: PtySession, *, acked: int = 0, limit: int = FAR, input_offset: int = 0) -> Follower:
    follower = Follower()
    session.attach(follower, acked=acked, limit=limit, input_offset=input_offset)
    return follower


def output(session: PtySession) -> bytes:
    return bytes(session.ring.view(session.ring.base, session.ring.head))


def read_exactly(fd: int, n_bytes: int) -> bytes:
    data = b""
    while len(data) < n_bytes:
        data += os.read(fd, n_bytes - len(data))
    return data


async def settle() -> None:
    """Let everything happen that can happen without anything new from outside."""
    for _ in range(5):
        await asyncio.sleep(0)


async def wait_exit(pid: int) -> None:
    """Wait for the end of a program, while everything goes on, and reap it."""
    await asyncio.to_thread(os.waitpid, pid, 0)


async def fill(session: PtySession, slave: int) -> None:
    """Write into a terminal until its session has read as much as it may."""
    loop = asyncio.get_running_loop()
    full = loop.create_future()
    os.set_blocking(slave, False)

    def write() -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(slave, b"x" * 1000)
        if session.ring.room_bytes == 0 and not full.done():
            full.set_result(None)

    def look() -> None:
        # The terminal is full, too, by now: nothing else would say that the ring is.
        write()
        if not full.done():
            loop.call_later(0.001, look)

    look()
    await asyncio.wait_for(full, 15)
    await settle()


# --- output ---------------------------------------------------------------------------------------


async def test_output_reaches_the_ring_and_its_follower(make: Make, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    session = make(master)
    follower = follow(session)
    os.write(slave, b"hello")
    await follower.until(lambda: output(session) == b"hello")


async def test_without_a_link_it_reads_until_the_ring_is_full(make: Make, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    session = make(master)
    await fill(session, slave)
    assert session.ring.head == ROOM_BYTES
    follower = follow(session)
    session.take_ack(1000, FAR)
    await follower.until(lambda: session.ring.head > ROOM_BYTES)


async def test_with_a_link_it_reads_up_to_the_limit(make: Make, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    session = make(master)
    follower = follow(session, limit=10)
    os.write(slave, b"0123456789abcdef")
    await follower.until(lambda: session.ring.head)
    await settle()
    assert output(session) == b"0123456789"
    session.take_ack(0, 12)
    await follower.until(lambda: session.ring.head == 12)
    session.detach()
    await settle()
    assert output(session) == b"0123456789abcdef", "the limit is the link's"


async def test_what_hq_may_still_ask_for_is_kept(make: Make, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    session = make(master)
    follower = follow(session)
    os.write(slave, b"0123456789")
    await follower.until(lambda: session.ring.head == 10)
    session.take_ack(10, FAR)
    session.detach()
    session.hold_everything()
    await fill(session, slave)
    assert session.ring.base == 0, "all of it is there for HQ to choose from"
    session.detach()
    await fill(session, slave)
    assert session.ring.head == 10 + ROOM_BYTES, "what is acked makes room again"


async def test_many_small_writes_close_together_are_read_together(
    make: Make, terminal: tuple[int, int]
) -> None:
    master, slave = terminal
    session = make(master)
    follower = follow(session)
    writes = 0
    while writes < 2000 and follower.outputs < 50:
        os.write(slave, b"token")
        writes += 1
        await asyncio.sleep(0)
    await follower.until(lambda: session.ring.head == 5 * writes)
    assert follower.outputs < writes / 5


async def test_input_ends_a_hold_at_once(
    make: Make, terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = terminal

    class HoldsForLong:
        def drained(self, now_us: int, n_bytes: int) -> int:
            return 3_600_000_000

        def input(self, now_us: int) -> None: ...

    monkeypatch.setattr(module, "HoldPolicy", HoldsForLong)
    session = make(master)
    follower = follow(session)
    os.write(slave, b"first")
    await follower.until(lambda: session.ring.head == 5)
    os.write(slave, b"echo")
    await settle()
    assert session.ring.head == 5
    session.write_input(b"x")
    await follower.until(lambda: output(session) == b"firstecho")


async def test_what_a_killed_runner_left_uncounted_is_found(
    make: Make, terminal: tuple[int, int], directory: RunnerDirectory
) -> None:
    master, _ = terminal
    memory = create_ring_memory(RING_BYTES, directory_fd=directory.fd)
    os.pwrite(memory, "gelesen, nicht gezählt".encode(), 4096)
    session = make(master, memory=memory)
    assert output(session).decode() == "gelesen, nicht gezählt"


# --- the end --------------------------------------------------------------------------------------


async def test_it_is_over_after_the_last_byte(make: Make, program: Callable[[str], tuple[int, int]]) -> None:
    pid, master = program("seq 2000; exit 3")
    session = make(master, pid=pid)
    follower = follow(session, limit=100)
    await follower.until(lambda: session.ring.head == 100)
    await settle()
    assert session.ring.head == 100
    session.take_ack(0, FAR)
    await wait_exit(pid)
    session.take_exit(Exit(3, None))
    await follower.until(lambda: follower.over)
    assert output(session) == b"".join(b"%d\r\n" % number for number in range(1, 2001))
    assert session.exit == Exit(3, None)


async def test_the_end_of_the_terminal_is_not_the_end_of_the_program(
    make: Make, program: Callable[[str], tuple[int, int]]
) -> None:
    pid, master = program("trap '' HUP; exec </dev/null >/dev/null 2>&1; kill -STOP $$; echo back >/dev/tty")
    session = make(master, pid=pid)
    follower = follow(session)
    await asyncio.to_thread(os.waitpid, pid, os.WUNTRACED)
    await settle()
    assert not session.over
    os.kill(pid, signal.SIGCONT)
    await follower.until(lambda: output(session) == b"back\r\n")
    await wait_exit(pid)
    session.take_exit(Exit(0, None))
    await follower.until(lambda: follower.over)


async def test_a_background_process_that_keeps_the_terminal_does_not_keep_the_session(
    make: Make, program: Callable[[str], tuple[int, int]]
) -> None:
    pid, master = program("trap '' HUP; echo before; sleep 600 & exit 0")
    session = make(master, pid=pid)
    follower = follow(session)
    await wait_exit(pid)
    session.take_exit(Exit(0, None))
    await follower.until(lambda: follower.over)
    assert output(session) == b"before\r\n"


async def test_a_background_process_that_never_stops_writing_does_not_keep_it_either(
    make: Make, program: Callable[[str], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AFTER_EXIT_BYTES", 20_000)
    pid, master = program("trap '' HUP; (while :; do echo noise; done) & exit 0")
    session = make(master, pid=pid)
    follower = follow(session)
    await wait_exit(pid)
    session.take_exit(Exit(0, None))

    async def ack() -> None:
        while not follower.over:
            session.take_ack(session.ring.head, FAR)
            await asyncio.sleep(0)

    await asyncio.wait_for(ack(), 15)


async def test_a_full_ring_holds_the_end_up_and_an_empty_terminal_does_not(
    make: Make, program: Callable[[str], tuple[int, int]]
) -> None:
    pid, master = program(f"trap '' HUP; printf %0{ROOM_BYTES}d 0; sleep 600 & exit 0")
    session = make(master, pid=pid)
    follower = follow(session)
    await wait_exit(pid)
    await follower.until(lambda: session.ring.head == ROOM_BYTES)
    session.take_exit(Exit(0, None))
    await settle()
    assert not session.over, "there may be more behind what fills the ring"
    session.take_ack(100, FAR)
    await follower.until(lambda: follower.over)
    assert session.ring.head == ROOM_BYTES


async def test_the_limit_does_not_hold_the_end_up(
    make: Make, program: Callable[[str], tuple[int, int]]
) -> None:
    pid, master = program("printf %0500d 0")
    session = make(master, pid=pid)
    follower = follow(session, limit=100)
    await wait_exit(pid)
    session.take_exit(Exit(0, None))
    await follower.until(lambda: follower.over)
    assert (session.ring.head, session.limit) == (500, 100)


async def test_with_its_keeper_dead_the_end_of_the_terminal_has_to_do(
    make: Make, program: Callable[[str], tuple[int, int]]
) -> None:
    pid, master = program("read line; echo bye")
    session = make(master, pid=pid)
    follower = follow(session)
    session.lose_keeper()
    session.write_input(b"\n")
    await follower.until(lambda: follower.over)
    assert session.exit == Exit(None, None)
    assert output(session).endswith(b"bye\r\n")


async def test_a_discarded_session_ends_however_much_it_says(
    make: Make, program: Callable[[str], tuple[int, int]]
) -> None:
    pid, master = program("head -c 1000000 /dev/zero")
    session = make(master, pid=pid)
    follower = Follower()
    session.discard(follower)
    session.lose_keeper()
    await follower.until(lambda: follower.over)
    assert session.ring.head == 1_000_000


# --- input ----------------------------------------------------------------------------------------


async def test_input_is_counted_where_the_next_runner_finds_it(
    make: Make, terminal: tuple[int, int], directory: RunnerDirectory
) -> None:
    master, slave = terminal
    memory = create_ring_memory(RING_BYTES, directory_fd=directory.fd)
    session = make(master, memory=os.dup(memory))
    assert session.write_input(b"typed")
    assert read_exactly(slave, 5) == b"typed"
    session.close()
    assert make(master, memory=memory).input_applied == 5


async def test_a_program_that_does_not_read_stops_only_its_own_input(
    make: Make, terminal: tuple[int, int]
) -> None:
    master, slave = terminal
    session = make(master)
    follower = follow(session)
    paste = os.urandom(1 << 20)
    assert session.write_input(paste)
    os.write(slave, b"output goes on")
    await follower.until(lambda: output(session) == b"output goes on")
    assert 0 < session.input_applied < 1 << 18, "as much as the kernel keeps for a terminal"
    received = bytearray()

    def read() -> None:
        received.extend(os.read(slave, 65_536))

    loop = asyncio.get_running_loop()
    loop.add_reader(slave, read)
    await follower.until(lambda: session.input_applied == len(paste))
    loop.remove_reader(slave)
    while len(received) < len(paste):
        received.extend(os.read(slave, 65_536))
    assert received == paste


async def test_the_queue_of_input_is_bounded(make: Make, terminal: tuple[int, int]) -> None:
    session = make(terminal[0])
    assert session.write_input(bytes(MAX_INPUT_BYTES))
    applied = session.input_applied
    assert session.write_input(bytes(applied))
    assert not session.write_input(b"x")
    assert session.input_applied == applied


async def test_input_that_was_applied_before_is_skipped(make: Make, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    session = make(master)
    session.write_input(b"0123")
    assert read_exactly(slave, 4) == b"0123"
    follow(session, input_offset=2)
    session.write_input(b"2")
    session.write_input(b"3456")
    assert read_exactly(slave, 3) == b"456"
    assert session.input_applied == 7


async def test_input_that_was_dropped_on_the_way_is_counted(make: Make, terminal: tuple[int, int]) -> None:
    session = make(terminal[0])
    follow(session, input_offset=100)
    session.write_input(b"x")
    assert session.input_applied == 101


async def test_input_that_waits_when_the_link_breaks_is_for_hq_to_send_again(
    make: Make, terminal: tuple[int, int]
) -> None:
    master, slave = terminal
    session = make(master)
    follow(session)
    session.write_input(b"a" * (1 << 20))
    applied = session.input_applied
    session.detach()
    os.set_blocking(slave, False)
    received = 0
    while True:
        await settle()
        try:
            received += len(os.read(slave, 65_536))
        except BlockingIOError:
            break
    assert received == applied == session.input_applied


# --- size and signals -----------------------------------------------------------------------------


async def test_a_resize_reaches_the_program(make: Make, program: Callable[[str], tuple[int, int]]) -> None:
    # A signal that comes just before a read is noticed when the read is over.
    pid, master = program("trap 'stty size' WINCH; echo ready; while :; do read -t 0.1 line; done")
    session = make(master, pid=pid)
    follower = follow(session)
    await follower.until(lambda: b"ready" in output(session))
    session.resize(rows=40, cols=132)
    await follower.until(lambda: b"40 132\r\n" in output(session))
    assert session.size == (40, 132)


async def test_a_signal_goes_to_the_foreground(make: Make, program: Callable[[str], tuple[int, int]]) -> None:
    shell = "sh -c 'echo ready; exec sleep 600'; echo status $?; read line"
    pid, master = program(f'exec bash --norc -ic "{shell}"'.replace("$", "\\$"))
    session = make(master, pid=pid)
    follower = follow(session)
    await follower.until(lambda: b"ready" in output(session))
    session.signal_foreground(signal.SIGTERM)  # which an interactive shell ignores
    await follower.until(lambda: b"status 143\r\n" in output(session))


async def test_a_closed_session_leaves_nothing_open(make: Make, terminal: tuple[int, int]) -> None:
    before = os.listdir("/proc/self/fd")
    session = make(terminal[0])
    session.write_input(b"x" * 100_000)
    session.close()
    session.close()
    assert os.listdir("/proc/self/fd") == before
