"""What goes into a log comes out again, from any offset, within its limits."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrelay.errors import LogError
from agentrelay.hq.log.format import BLOCK_BYTES, End, Gap, Input, Output, Resize
from agentrelay.hq.log.session_log import MAX_APPEND_BYTES, LogLimits, SessionLog

SMALL = LogLimits(keep_bytes=3000, segment_bytes=1000)


def new_log(directory: Path, limits: LogLimits | None = None) -> SessionLog:
    return SessionLog(directory, session_id="s1", epoch="e1", rows=24, cols=80, limits=limits)


def reopen(log: SessionLog, limits: LogLimits | None = None) -> SessionLog:
    log.close_file()
    return SessionLog.recover(
        log.directory, session_id="s1", epoch="e1", rows=1, cols=1, limits=limits or LogLimits()
    )


def read_to_end(log: SessionLog, start: int = 0, max_bytes: int = 1 << 20) -> list[tuple[int, bytes]]:
    """Give the pieces between gaps."""
    pieces: list[tuple[int, bytes]] = []
    while (answer := log.read(start, max_bytes))[1]:
        offset, data = answer
        if pieces and offset == start:
            pieces[-1] = pieces[-1][0], pieces[-1][1] + data
        else:
            pieces.append((offset, data))
        start = offset + len(data)
    return pieces


def pattern(start: int, n_bytes: int) -> bytes:
    return bytes((start + i) * 7 % 251 for i in range(n_bytes))


def fill(log: SessionLog, *sizes: int) -> None:
    for size in sizes:
        log.append_output(log.end, pattern(log.end, size), time_us=log.end)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "sessions" / "s1"


def test_a_new_log_touches_the_disk_with_its_first_record(directory: Path) -> None:
    log = new_log(directory)
    assert not directory.parent.exists()
    assert (log.base, log.end, log.read(0, 100), log.disk_bytes) == (0, 0, (0, b""), 0)
    fill(log, 5)
    assert [path.name for path in directory.iterdir()] == ["00000000000000000000-00000000.seg"]
    log.close_file()


def test_only_its_owner_can_read_it(directory: Path) -> None:
    old = os.umask(0)
    try:
        log = new_log(directory)
        fill(log, 5)
    finally:
        os.umask(old)
    modes = [path.stat().st_mode & 0o777 for path in (directory.parent, directory, *directory.iterdir())]
    assert modes == [0o700, 0o700, 0o600]
    log.close_file()


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 700), max_size=12),
    start=st.integers(0, 9000),
    max_bytes=st.integers(1, 2000),
    again=st.booleans(),
)
def test_every_offset_reads_back(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], start: int, max_bytes: int, *, again: bool
) -> None:
    log = new_log(tmp_path_factory.mktemp("log") / "s", LogLimits(segment_bytes=1000))
    fill(log, *sizes)
    if again:
        log = reopen(log)
    total = sum(sizes)
    assert (log.base, log.end) == (0, total)
    assert b"".join(data for _, data in read_to_end(log, start, max_bytes)) == pattern(0, total)[start:]
    offset, data = log.read(start, max_bytes)
    assert len(data) == min(max_bytes, max(0, total - start))
    assert offset == start
    log.close_file()


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 3) | st.integers(1, 1 << 20), min_size=1, max_size=6),
    starts=st.lists(st.floats(0, 1), max_size=5),
    resizes=st.booleans(),
)
def test_output_is_the_same_across_blocks(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], starts: list[float], *, resizes: bool
) -> None:
    log = new_log(tmp_path_factory.mktemp("log") / "s")
    written = bytearray()
    for n, size in enumerate(sizes):
        data = random.Random(n).randbytes(size)
        log.append_output(log.end, data)
        if resizes:
            log.append(Resize(log.end, 0, 10 + n, 80))
        written += data
    recovered = reopen(log)
    assert (recovered.end, recovered.size) == (log.end, log.size)
    for each in (log, recovered):
        for start in [0, *(int(share * len(written)) for share in starts)]:
            assert b"".join(data for _, data in read_to_end(each, start)) == written[start:]
        assert not [record for record in each.records() if isinstance(record, Gap)]
    size = log.disk_bytes
    overhead = size - len(written)
    assert overhead < 400 + 1200 * (size // BLOCK_BYTES) + 100 * len(sizes)


def test_old_segments_go_only_while_enough_remains(directory: Path) -> None:
    log = new_log(directory, SMALL)
    for _ in range(100):
        fill(log, 100)
        assert log.end - log.base >= min(log.end, SMALL.keep_bytes)
        assert log.disk_bytes == sum(path.stat().st_size for path in directory.iterdir())
    assert log.end - log.base < SMALL.keep_bytes + SMALL.segment_bytes
    assert read_to_end(log) == [(log.base, pattern(log.base, log.end - log.base))]
    again = reopen(log, SMALL)
    assert (again.base, again.end) == (log.base, log.end)
    fill(again, 100, 100)
    assert read_to_end(again) == [(again.base, pattern(again.base, again.end - again.base))]
    again.close_file()


def test_a_gap_does_not_count_as_output_that_is_kept(directory: Path) -> None:
    log = new_log(directory, SMALL)
    fill(log, 900)
    log.append(Gap(900, 0, 1_000_000))
    fill(log, 900, 900)
    assert log.base == 0
    assert [(offset, len(data)) for offset, data in read_to_end(log)] == [(0, 900), (1_000_000, 1800)]
    assert log.read(500, 1000) == (500, pattern(500, 400))
    assert log.read(5000, 10) == (1_000_000, pattern(1_000_000, 10))
    again = reopen(log, SMALL)
    fill(again, 900)
    assert again.base == 0
    again.close_file()


def test_records_come_back_in_order_with_the_size_first(directory: Path) -> None:
    log = new_log(directory)
    fill(log, 10)
    log.append(Resize(10, 11, 50, 132))
    log.append(Input(10, 12, "tab-1", 3, None))
    log.append(Input(10, 13, "tab-1", 3, b"ls\n"))
    fill(log, 10)
    log.append(Gap(20, 14, 40))
    fill(log, 10)
    log.append(End(50, 15, 0, None))
    everything = [
        Output(0, 0, pattern(0, 10)),
        Resize(10, 11, 50, 132),
        Input(10, 12, "tab-1", 3, None),
        Input(10, 13, "tab-1", 3, b"ls\n"),
        Output(10, 10, pattern(10, 10)),
        Gap(20, 14, 40),
        Output(40, 40, pattern(40, 10)),
        End(50, 15, 0, None),
    ]
    for each in (log, reopen(log)):
        first, *rest = each.records()
        assert isinstance(first, Resize)
        assert (first.offset, first.rows, first.cols) == (0, 24, 80)
        assert rest == everything
        assert list(each.records(15)) == [
            Resize(15, 11, 50, 132),
            Output(15, 10, pattern(15, 5)),
            *everything[5:],
        ]
        assert list(each.records(30))[:2] == [Resize(30, 11, 50, 132), Gap(30, 14, 40)]
        assert list(each.records(50)) == [Resize(50, 11, 50, 132), End(50, 15, 0, None)]
        assert each.ended == End(50, 15, 0, None)


def test_the_size_in_force_is_known_without_the_segments_before(directory: Path) -> None:
    log = new_log(directory, LogLimits(keep_bytes=0, segment_bytes=1000))
    fill(log, 100)
    log.append(Resize(100, 0, 50, 132))
    fill(log, 900, 900)
    assert log.base == 1000
    first = next(iter(log.records()))
    assert isinstance(first, Resize)
    assert (first.offset, first.rows, first.cols) == (1000, 50, 132)
    log.close_file()


def test_an_ended_log_is_closed_and_takes_no_more(directory: Path) -> None:
    log = new_log(directory)
    fill(log, 10)
    log.append(End(10, 1, None, 9))
    assert not log.is_open
    for each in (log, reopen(log)):
        assert (each.end, each.ended) == (10, End(10, 1, None, 9))
        with pytest.raises(LogError, match="is over"):
            fill(each, 1)


def test_output_that_does_not_follow_is_refused(directory: Path) -> None:
    log = new_log(directory)
    fill(log, 10)
    for offset in (9, 11):
        with pytest.raises(LogError, match="the log ends at 10"):
            log.append_output(offset, b"x")
        with pytest.raises(LogError, match="the log ends at 10"):
            log.append(Resize(offset, 0, 1, 1))
    with pytest.raises(LogError, match="cannot follow"):
        log.append_output(10, bytes(MAX_APPEND_BYTES + 1))
    log.close_file()


def test_the_file_can_be_closed_between_appends(directory: Path) -> None:
    log = new_log(directory)
    for _ in range(3):
        fill(log, 10)
        assert log.is_open
        log.close_file()
        assert not log.is_open
    assert read_to_end(log) == [(0, pattern(0, 30))]


def test_a_refused_write_leaves_a_whole_log(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = new_log(directory)
    fill(log, 100)
    real = os.writev

    def half_then_full_disk(fd: int, parts: tuple[bytes, ...]) -> int:
        monkeypatch.setattr(os, "writev", full_disk)
        return real(fd, [parts[0], parts[1][:50]])

    def full_disk(fd: int, parts: tuple[bytes, ...]) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", half_then_full_disk)
    with pytest.raises(LogError, match="No space left on device"):
        fill(log, 100)
    monkeypatch.undo()
    assert not log.is_open
    assert reopen(log).recovery.cut_bytes == 0
    fill(log, 30)
    assert read_to_end(reopen(log)) == [(0, pattern(0, 130))]


def test_a_short_write_is_continued(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: real(fd, [b"".join(parts)[:13]]))
    log = new_log(directory)
    fill(log, 100, 50)
    monkeypatch.undo()
    assert read_to_end(reopen(log)) == [(0, pattern(0, 150))]


def test_deleting_the_oldest_spares_the_segment_in_use(directory: Path) -> None:
    log = new_log(directory, SMALL)
    fill(log, 900, 900, 900)
    assert log.delete_oldest()
    assert log.delete_oldest()
    assert not log.delete_oldest()
    assert (log.base, log.end) == (1800, 2700)
    log.close_file()


def test_of_an_ended_log_the_end_is_spared(directory: Path) -> None:
    log = new_log(directory, SMALL)
    fill(log, 900, 900)
    log.append(End(1800, 5, 1, None))
    while log.delete_oldest():
        pass
    for each in (log, reopen(log)):
        assert (each.base, each.end, each.ended) == (1800, 1800, End(1800, 5, 1, None))
        assert each.read(0, 100) == (1800, b"")
        assert each.disk_bytes < 400
        assert len(list(directory.iterdir())) == 1
        assert not each.delete_oldest()


def test_a_segment_that_is_deleted_while_it_is_read_is_passed_over(directory: Path) -> None:
    log = new_log(directory, SMALL)
    fill(log, 900, 900, 900)
    reader = log.records()
    next(reader)
    log.delete_oldest()
    log.delete_oldest()
    rest = list(reader)
    assert rest[0] in (Gap(0, 1800, 1800), Output(0, 0, pattern(0, 900)))
    assert rest[-1] == Output(1800, 1800, pattern(1800, 900))
    log.close_file()


def test_delete_takes_the_directory(directory: Path) -> None:
    log = new_log(directory)
    fill(log, 900)
    log.delete()
    assert not directory.exists()
    assert log.read(0, 10) == (900, b"")
    log.delete()


def test_many_logs_hold_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    logs = [new_log(tmp_path / str(n)) for n in range(200)]
    tracemalloc.start()
    for log in logs:
        fill(log, 100)
        log.close_file()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / len(logs) < 4000


def test_the_changes_of_size_can_be_read_by_themselves(directory: Path) -> None:
    log = new_log(directory)
    log.append_output(0, b"0123456789")
    log.append(Resize(10, 1, 30, 100))
    log.append_output(10, b"abc")
    log.append(Resize(13, 2, 40, 120))
    log.append(Resize(13, 3, 50, 130))
    assert log.sizes(0, 14) == [(0, 24, 80), (10, 30, 100), (13, 40, 120), (13, 50, 130)]
    assert log.sizes(9, 13) == [(9, 24, 80), (10, 30, 100)]
    assert log.sizes(10, 13) == [(10, 30, 100)]
    assert log.sizes(11, 13) == [(11, 30, 100)]
    assert log.sizes(13, 14) == [(13, 50, 130)]
