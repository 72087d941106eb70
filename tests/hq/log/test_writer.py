"""The log writer: everything is written in order, and no disk stalls the loop or another session for good."""

import asyncio
import errno
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agentrelay.hq.log import recording
from agentrelay.hq.log.budget import LogBudget
from agentrelay.hq.log.format import End, Gap, Input, Output, Resize
from agentrelay.hq.log.recording import HURRY_BYTES, MOST_WAITING, Recording, Source
from agentrelay.hq.log.session_log import LogLimits, SessionLog
from agentrelay.hq.log.writer import LogWriter


class Bytes:
    """A source that keeps everything."""

    def __init__(self, offset: int = 0) -> None:
        self.first = offset
        self.data = bytearray()
        self.closed = False

    @property
    def head(self) -> int:
        if self.closed:
            raise ValueError("closed")
        return self.first + len(self.data)

    def view(self, start: int, end: int) -> memoryview:
        assert self.first <= start <= end <= self.head
        return memoryview(bytes(self.data[start - self.first : end - self.first]))


class Followed:
    """A session that is recorded, and what its recording said."""

    def __init__(self, writer: LogWriter, directory: Path, limits: LogLimits | None = None) -> None:
        self.source = Bytes()
        self.log = SessionLog(directory, session_id="s", epoch="e", rows=24, cols=80, limits=limits)
        self.logged: list[int] = []
        self.failures: list[str] = []
        self.recording = self.follow(writer, self.source)

    def follow(self, writer: LogWriter, source: Source) -> Recording:
        return writer.follow(self.log, source, on_logged=self.logged.append, on_failed=self.failures.append)

    def output(self, data: bytes) -> None:
        self.source.data += data
        self.recording.wake()

    def records(self) -> list[tuple[object, ...]]:
        """All records but the size at the start, without their times, and runs of output joined."""
        found: list[tuple[object, ...]] = []
        output: tuple[int, bytes] | None = None
        for record in list(self.log.records())[1:]:
            match record:
                case Output(offset=offset, data=data):
                    if output is not None:
                        found.pop()
                        offset, data = output[0], output[1] + data
                    output = offset, data
                    found.append(output)
                    continue
                case Resize(rows=rows, cols=cols):
                    found.append(("resize", record.offset, rows, cols))
                case Input(viewer=viewer, n_bytes=n_bytes, data=typed):
                    found.append(("input", record.offset, viewer, n_bytes, typed))
                case Gap(end=end):
                    found.append(("gap", record.offset, end))
                case End(exit_code=exit_code, signal=signal):
                    found.append(("end", record.offset, exit_code, signal))
            output = None
        return found


@pytest.fixture
async def writer() -> AsyncIterator[LogWriter]:
    writer = LogWriter(LogBudget(1 << 30), linger_s=0.001)
    writer.start()
    yield writer
    await writer.close()


@pytest.fixture
async def session(writer: LogWriter, tmp_path: Path) -> Followed:
    return Followed(writer, tmp_path / "s")


async def test_output_reaches_the_log_and_its_offset_comes_back(session: Followed) -> None:
    session.output(b"one ")
    session.output(b"two")
    await session.recording.flush()
    assert session.records() == [(0, b"one two")]
    assert session.logged[-1] == session.recording.logged == session.log.end == 7
    assert sorted(session.logged) == session.logged


async def test_records_keep_their_place_in_the_output(session: Followed) -> None:
    recording = session.recording
    session.output(b"abc")
    recording.resized(rows=50, cols=132)
    recording.typed("tab-1", 3)
    session.output(b"def")
    recording.typed("tab-2", 2, b"ls")
    recording.resized(rows=24, cols=80)
    session.output(b"ghi")
    recording.ended(exit_code=1, signal=None)
    await recording.flush()
    assert session.records() == [
        (0, b"abc"),
        ("resize", 3, 50, 132),
        ("input", 3, "tab-1", 3, None),
        (3, b"def"),
        ("input", 6, "tab-2", 2, b"ls"),
        ("resize", 6, 24, 80),
        (6, b"ghi"),
        ("end", 9, 1, None),
    ]
    assert session.logged[-1] == 9
    assert not session.log.is_open


async def test_sizes_and_input_at_one_offset_are_few_records_however_many_they_were(
    session: Followed,
) -> None:
    recording = session.recording
    session.output(b"abc")
    for number in range(10_000):
        recording.resized(rows=24 + number % 2, cols=80)
        assert len(recording._events) <= 1
    for _ in range(10_000):
        recording.typed("tab-1", 2)
    recording.typed("tab-2", 3)
    recording.typed("tab-2", 2, b"ls")
    recording.typed("tab-2", 4)
    assert len(recording._events) <= 5
    for number in range(1000):  # nor where they take turns
        recording.resized(rows=24 + number % 2, cols=80)
        recording.typed("tab-3", 1)
    assert len(recording._events) <= 7
    await recording.flush()
    found = session.records()
    assert found[0] == (0, b"abc")
    assert ("input", 3, "tab-2", 4, None) in found
    assert ("resize", 3, 25, 80) in found
    typed = {"tab-1": 0, "tab-2": 0, "tab-3": 0}
    for record in session.log.records():
        if isinstance(record, Input):
            typed[record.viewer] += record.n_bytes
    assert typed == {"tab-1": 20_000, "tab-2": 9, "tab-3": 1000}


async def test_what_is_typed_while_the_disk_is_behind_is_only_counted(session: Followed) -> None:
    session.output(b"abc")
    for _ in range(1000):
        session.recording.typed("tab", 3, b"abc")
        assert len(session.recording._events) <= MOST_WAITING + 1
    await session.recording.flush()
    typed = [record for record in session.log.records() if isinstance(record, Input)]
    assert sum(record.n_bytes for record in typed) == 3000
    assert typed[0].data == b"abc"


async def test_the_source_may_be_closed_once_the_session_is_over(writer: LogWriter, tmp_path: Path) -> None:
    session = Followed(writer, tmp_path / "s")
    session.output(b"all of it")
    await session.recording.flush()
    session.recording.ended(exit_code=0, signal=None)
    session.source.closed = True
    session.recording.wake()
    await session.recording.flush()
    assert session.failures == []
    assert session.records() == [(0, b"all of it"), ("end", 9, 0, None)]
    session.recording.wake()
    await session.recording.flush()
    assert session.failures == []


async def test_a_flood_is_written_in_records_of_a_mebibyte(session: Followed) -> None:
    data = os.urandom(5 << 20)
    session.output(data)
    await session.recording.flush()
    assert session.log.read(0, 6 << 20) == (0, data)
    assert session.logged == [1 << 20, 2 << 20, 3 << 20, 4 << 20, 5 << 20]


async def test_a_gap_goes_on_in_another_source(session: Followed) -> None:
    session.output(b"before")
    after = Bytes(100)
    session.recording.gap(100, after)
    after.data += b"after"
    session.recording.wake()
    await session.recording.flush()
    assert session.records() == [(0, b"before"), ("gap", 6, 100), (100, b"after")]
    assert session.recording.logged == 105


async def test_a_gap_may_go_on_in_the_same_source_once_all_is_logged(session: Followed) -> None:
    session.output(b"before")
    await session.recording.flush()
    session.source.first, session.source.data = 100, bytearray(b"after")
    session.recording.gap(100, session.source)
    await session.recording.flush()
    assert session.records() == [(0, b"before"), ("gap", 6, 100), (100, b"after")]


async def test_a_log_of_an_earlier_run_is_continued(writer: LogWriter, tmp_path: Path) -> None:
    first = Followed(writer, tmp_path / "s")
    first.output(b"first")
    await first.recording.close()
    assert not first.log.is_open
    log = SessionLog.recover(tmp_path / "s", session_id="s", epoch="e", rows=24, cols=80)
    source = Bytes(5)
    recording = writer.follow(log, source, on_logged=lambda _: None, on_failed=pytest.fail)
    source.data += b"second"
    recording.wake()
    await recording.flush()
    assert log.read(0, 100) == (0, b"firstsecond")


async def test_a_closed_recording_takes_no_more(session: Followed) -> None:
    session.output(b"kept")
    await session.recording.close()
    session.output(b"not kept")
    await session.recording.flush()
    assert session.records() == [(0, b"kept")]
    assert session.failures == []


async def test_small_output_is_gathered(tmp_path: Path) -> None:
    writer = LogWriter(LogBudget(1 << 30), linger_s=60)
    writer.start()
    session = Followed(writer, tmp_path / "s")
    for _ in range(1000):
        session.output(b"token ")
    await session.recording.flush()
    assert len(list(session.log.records())) == 2
    await writer.close()


async def test_what_is_gathered_keeps_its_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_us = 1_000_000
    monkeypatch.setattr(recording, "_now_us", lambda: now_us)
    writer = LogWriter(LogBudget(1 << 30), linger_s=60)
    writer.start()
    session = Followed(writer, tmp_path / "s")
    for n in range(8):
        session.output(b"%d" % n)
        now_us += 6_000
    session.recording.resized(rows=30, cols=90)
    now_us += 100_000
    session.output(b"after a pause")
    await session.recording.flush()
    assert list(session.log.records())[1:] == [
        Output(0, 1_000_000, b"0123"),
        Output(4, 1_024_000, b"4567"),
        Resize(8, 1_048_000, 30, 90),
        Output(8, 1_148_000, b"after a pause"),
    ]
    await writer.close()


async def test_very_many_arrivals_are_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_us = 0
    monkeypatch.setattr(recording, "_now_us", lambda: now_us)
    writer = LogWriter(LogBudget(1 << 30), linger_s=60)
    writer.start()
    session = Followed(writer, tmp_path / "s")
    for _ in range(3000):
        now_us += recording.ARRIVAL_US
        session.output(b"x")
    await session.recording.flush()
    assert session.records() == [(0, b"x" * 3000)]
    assert len(list(session.log.records())) == 1 + 3000
    await writer.close()


async def test_much_output_is_written_without_waiting(tmp_path: Path) -> None:
    writer = LogWriter(LogBudget(1 << 30), linger_s=60)
    writer.start()
    session = Followed(writer, tmp_path / "s")
    logged = asyncio.get_running_loop().create_future()
    session.recording = writer.follow(
        session.log, session.source, on_logged=logged.set_result, on_failed=pytest.fail
    )
    session.output(bytes(HURRY_BYTES))
    assert await asyncio.wait_for(logged, 30) == HURRY_BYTES
    await writer.close()


class StalledDisk:
    """Stands in for writev: sends the bytes of one session into a pipe that nobody reads, until told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, victim: Path) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.write_fd, False)
        try:
            while True:
                os.write(self.write_fd, bytes(65536))
        except BlockingIOError:
            os.set_blocking(self.write_fd, True)
        self.stalls = True
        self.reached = threading.Event()
        self.real = os.writev
        self.victim = victim
        monkeypatch.setattr(os, "writev", self.writev)

    def writev(self, fd: int, parts: tuple[bytes, ...]) -> int:
        if self.stalls and Path(os.readlink(f"/proc/self/fd/{fd}")).parent == self.victim:
            self.reached.set()
            os.write(self.write_fd, b"x")  # blocks in the kernel, as a write to a stalled disk does
        return self.real(fd, parts)

    def recover(self) -> None:
        self.stalls = False
        os.read(self.read_fd, 65536)

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StalledDisk]:
    disk = StalledDisk(monkeypatch, tmp_path / "stalled")
    yield disk
    disk.close()


async def test_a_stalled_disk_never_stalls_the_loop(
    writer: LogWriter, stalled: StalledDisk, tmp_path: Path
) -> None:
    session = Followed(writer, tmp_path / "stalled")
    loop = asyncio.get_running_loop()
    session.output(bytes(HURRY_BYTES))
    await loop.run_in_executor(None, stalled.reached.wait)
    slowest = 0.0
    for _ in range(500):
        before = loop.time()
        session.output(bytes(4096))
        session.recording.typed("tab", 1)
        session.recording.resized(rows=24, cols=80)
        slowest = max(slowest, loop.time() - before)
        await asyncio.sleep(0)
    assert slowest < 0.5
    assert session.logged == []
    stalled.recover()
    await session.recording.flush()
    assert session.log.end == HURRY_BYTES + 500 * 4096


async def test_a_disk_that_refuses_stops_that_recording_only(
    writer: LogWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full, fine = Followed(writer, tmp_path / "full"), Followed(writer, tmp_path / "fine")
    full.output(b"kept")
    await full.recording.flush()
    real = os.writev

    def writev(fd: int, parts: tuple[bytes, ...]) -> int:
        if Path(os.readlink(f"/proc/self/fd/{fd}")).parent.name == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, parts)

    monkeypatch.setattr(os, "writev", writev)
    full.output(b"lost")
    full.recording.typed("tab", 1)
    fine.output(b"written")
    await full.recording.flush()
    await fine.recording.flush()
    assert full.failures == [f"cannot write the log in {tmp_path / 'full'}: No space left on device"]
    assert full.recording.failed == full.failures[0]
    assert [record.message for record in caplog.records if "not recorded any more" in record.message] != []
    assert full.log.read(0, 100) == (0, b"kept")
    assert fine.log.read(0, 100) == (0, b"written")
    monkeypatch.undo()
    full.output(b"still nothing")
    await full.recording.flush()
    assert full.log.read(0, 100) == (0, b"kept")
    assert len(full.failures) == 1


async def test_a_source_that_lost_bytes_fails_that_recording_only(
    writer: LogWriter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session, other = Followed(writer, tmp_path / "one"), Followed(writer, tmp_path / "other")
    session.source.data += b"0123456789"
    session.source.first = 5
    session.recording.wake()
    other.output(b"fine")
    await session.recording.flush()
    await other.recording.flush()
    assert [failure.split(":")[0] for failure in session.failures] == ["AssertionError"]
    assert other.log.end == 4


async def test_a_directory_that_cannot_be_made_fails_the_recording(writer: LogWriter, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    session = Followed(writer, tmp_path / "file" / "s")
    session.output(b"lost")
    await session.recording.flush()
    assert session.failures == [f"cannot write the log in {tmp_path / 'file' / 's'}: File exists"]


async def test_many_sessions_hold_few_files_open(tmp_path: Path) -> None:
    writer = LogWriter(LogBudget(1 << 30), linger_s=0.001, max_open_files=8)
    writer.start()
    sessions = [Followed(writer, tmp_path / f"{n}") for n in range(100)]
    for _ in range(2):
        for session in sessions:
            session.output(b"hello")
        for session in sessions:
            await session.recording.flush()
        assert sum(session.log.is_open for session in sessions) <= 8
    assert all(session.log.read(0, 100) == (0, b"hellohello") for session in sessions)
    await writer.close()
    assert not any(session.log.is_open for session in sessions)


async def test_idle_files_are_closed(tmp_path: Path) -> None:
    writer = LogWriter(LogBudget(1 << 30), linger_s=0, idle_file_s=0.01)
    writer.start()
    session = Followed(writer, tmp_path / "s")
    closed = threading.Event()
    real = session.log.close_file

    def close_file() -> None:
        real()
        closed.set()

    session.log.close_file = close_file  # type: ignore[method-assign]
    session.output(b"hello")
    await asyncio.get_running_loop().run_in_executor(None, closed.wait, 30)
    assert not session.log.is_open
    await writer.close()


async def test_close_writes_what_is_waiting(tmp_path: Path) -> None:
    writer = LogWriter(LogBudget(1 << 30), linger_s=60)
    writer.start()
    sessions = [Followed(writer, tmp_path / f"{n}") for n in range(3)]
    for session in sessions:
        session.output(bytes(3 << 20))
    await writer.close()
    assert [session.log.end for session in sessions] == [3 << 20] * 3


async def test_reading_goes_on_while_it_is_written_and_trimmed(writer: LogWriter, tmp_path: Path) -> None:
    session = Followed(writer, tmp_path / "s", LogLimits(keep_bytes=2 << 20, segment_bytes=1 << 19))
    pattern = bytes(range(251)) * 4000
    loop = asyncio.get_running_loop()

    def read_along() -> int:
        checked = start = 0
        while start < 12_000_000:
            offset, data = session.log.read(start, 100_000)
            assert data == (pattern * 2)[offset % 251 :][: len(data)]
            checked += len(data)
            start = max(start, offset + len(data))
        return checked

    reader = loop.run_in_executor(None, read_along)
    for _ in range(13):
        session.output(pattern)
        await session.recording.flush()
    assert await reader > 0
    assert session.log.base > 0


ACKED_AND_KILLED = """
import asyncio, os, sys
from pathlib import Path
from agentrelay.hq.log import recording
from agentrelay.hq.log.budget import LogBudget
from agentrelay.hq.log.session_log import SessionLog
from agentrelay.hq.log.writer import LogWriter

class Source:
    head = 0
    def view(self, start, end):
        return memoryview(bytes(n * 7 % 251 for n in range(start, end)))

async def main():
    writer = LogWriter(LogBudget(1 << 30), linger_s=0)
    writer.start()
    source = Source()
    log = SessionLog(Path(sys.argv[1]), session_id="s", epoch="e", rows=24, cols=80)

    def on_logged(offset):
        os.write(1, b"%d\\n" % offset)
        source.head += 777
        recording.wake()

    recording = writer.follow(log, source, on_logged=on_logged, on_failed=print)
    on_logged(0)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_what_was_reported_survives_a_kill(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ACKED_AND_KILLED, str(tmp_path / "s"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(200)]
    process.kill()
    lines += (await process.stdout.read()).splitlines(keepends=True)
    await process.wait()
    reported = max(int(line) for line in lines if line.endswith(b"\n"))
    log = SessionLog.recover(tmp_path / "s", session_id="s", epoch="e", rows=24, cols=80)
    assert log.end >= reported
    assert log.read(0, 1 << 30) == (0, bytes(n * 7 % 251 for n in range(log.end)))


async def test_limits_hold_while_writing(writer: LogWriter, tmp_path: Path) -> None:
    session = Followed(writer, tmp_path / "s", LogLimits(keep_bytes=3 << 20, segment_bytes=1 << 20))
    for _ in range(10):
        session.output(bytes(1 << 20))
        await session.recording.flush()
    assert session.log.end == 10 << 20
    assert 3 << 20 <= session.log.end - session.log.base <= 5 << 20


async def test_the_budget_is_enforced_when_a_session_ends(tmp_path: Path) -> None:
    writer = LogWriter(LogBudget(10_000), linger_s=0)
    writer.start()
    first, second = Followed(writer, tmp_path / "1"), Followed(writer, tmp_path / "2")
    for session in (first, second):
        session.output(bytes(9000))
        session.recording.ended(exit_code=0, signal=None)
        await session.recording.flush()
    assert (first.log.base, first.log.end) == (9000, 9000)
    assert (second.log.base, second.log.end) == (0, 9000)
    await writer.close()
