"""After a crash, every record before the damage is there, and nothing that was not written."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrelay.errors import LogError
from agentrelay.hq.log.format import (
    BLOCK_BYTES,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    End,
    Gap,
    Output,
    Resize,
    encode_record_header,
)
from agentrelay.hq.log.recovery import Recovery
from agentrelay.hq.log.session_log import LogLimits, SessionLog

SIZES = (100, 1, 300, 50)
LIMITS = LogLimits(segment_bytes=100_000)


def pattern(start: int, n_bytes: int) -> bytes:
    return bytes((start + i) * 7 % 251 for i in range(n_bytes))


def write(directory: Path, *sizes: int, limits: LogLimits = LIMITS) -> SessionLog:
    log = SessionLog(directory, session_id="s", epoch="e", rows=24, cols=80, limits=limits)
    for size in sizes:
        log.append_output(log.end, pattern(log.end, size), time_us=1)
    log.close_file()
    return log


def recover(directory: Path, limits: LogLimits = LIMITS) -> SessionLog:
    return SessionLog.recover(directory, session_id="s", epoch="e", rows=24, cols=80, limits=limits)


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def readable(log: SessionLog) -> dict[int, int]:
    """Give every readable byte by offset."""
    found: dict[int, int] = {}
    start = 0
    while (answer := log.read(start, 77))[1]:
        offset, data = answer
        found.update(enumerate(data, offset))
        start = offset + len(data)
    return found


def assert_true_to(found: dict[int, int], total: int) -> None:
    assert all(found[offset] == pattern(offset, 1)[0] for offset in found)
    assert all(offset < total for offset in found)


@settings(deadline=None, max_examples=150)
@given(cut=st.integers(0, SEGMENT_HEADER_BYTES + sum(SIZES) + len(SIZES) * RECORD_HEADER_BYTES))
def test_a_torn_tail_is_cut_behind_the_last_whole_record(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    directory = tmp_path_factory.mktemp("log")
    write(directory, *SIZES)
    path = segments(directory)[0]
    with path.open("r+b") as file:
        file.truncate(cut)
    whole, position = 0, SEGMENT_HEADER_BYTES
    for size in SIZES:
        position += RECORD_HEADER_BYTES + size
        if position <= cut:
            whole += size
    log = recover(directory)
    assert (log.base, log.end) == (0, whole)
    assert readable(log) == dict(enumerate(pattern(0, whole)))
    assert path.exists() == (cut >= SEGMENT_HEADER_BYTES)
    log.append_output(whole, pattern(whole, 40))
    log.close_file()
    assert readable(recover(directory)) == dict(enumerate(pattern(0, whole + 40)))


@settings(deadline=None, max_examples=200)
@given(data=st.data(), flips=st.integers(1, 4))
def test_whatever_bits_flip_the_records_before_survive(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, flips: int
) -> None:
    directory = tmp_path_factory.mktemp("log")
    write(directory, *SIZES)
    path = segments(directory)[0]
    content = bytearray(path.read_bytes())
    bits = data.draw(st.sets(st.integers(0, len(content) * 8 - 1), min_size=flips, max_size=flips))
    for bit in bits:
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    log = recover(directory)
    found = readable(log)
    assert_true_to(found, sum(SIZES))
    first_damage = min(bits) // 8
    if first_damage >= SEGMENT_HEADER_BYTES:
        sound, position = 0, SEGMENT_HEADER_BYTES
        for size in SIZES:
            position += RECORD_HEADER_BYTES + size
            if position > first_damage:
                break
            sound += size
        assert set(range(sound)) <= set(found)
    else:
        assert len(log.recovery.set_aside) == 1
    # The log goes on, wherever it stands.
    log.append_output(log.end, b"more")
    log.close_file()
    assert readable(recover(directory)).items() >= found.items()


@settings(deadline=None, max_examples=100)
@given(contents=st.lists(st.binary(max_size=600), min_size=1, max_size=3))
def test_garbage_files_never_raise(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    directory = tmp_path_factory.mktemp("log")
    for n, content in enumerate(contents):
        (directory / f"{n * 100:020d}-{n:08d}.seg").write_bytes(content)
    (directory / "notes.txt").write_text("not ours")
    log = recover(directory)
    assert (log.base, log.end, readable(log)) == (0, 0, {})
    log.append_output(0, b"more")
    log.close_file()
    assert (directory / "notes.txt").exists()


def test_damaged_data_costs_only_its_record(tmp_path: Path) -> None:
    write(tmp_path, 100, 100, 100)
    path = segments(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[SEGMENT_HEADER_BYTES + 2 * RECORD_HEADER_BYTES + 150] ^= 1
    path.write_bytes(content)
    log = recover(tmp_path)
    assert log.recovery.lost == ((100, 200),)
    assert log.recovery.cut_bytes == 0
    assert log.end == 300
    assert log.read(0, 1000) == (0, pattern(0, 100))
    assert log.read(100, 1000) == (200, pattern(200, 100))
    assert list(log.records())[1:] == [
        Output(0, 1, pattern(0, 100)),
        Gap(100, 1, 200),
        Output(200, 1, pattern(200, 100)),
    ]


def big_log(directory: Path, n_blocks: int) -> tuple[bytes, bytearray]:
    """Write a segment of small records; give its output and its file."""
    log = write(directory, limits=LogLimits())
    data = random.Random(1).randbytes(n_blocks * BLOCK_BYTES)
    for start in range(0, len(data), 1000):
        log.append_output(start, data[start : start + 1000], time_us=1)
    log.close_file()
    return data, bytearray(segments(directory)[0].read_bytes())


def test_a_broken_record_header_costs_at_most_its_block(tmp_path: Path) -> None:
    data, content = big_log(tmp_path, 4)
    content[BLOCK_BYTES + 100_000 : BLOCK_BYTES + 102_000] = bytes(2000)
    segments(tmp_path)[0].write_bytes(content)
    log = recover(tmp_path, LogLimits())
    assert (log.end, log.recovery) == (len(data), Recovery())
    start, before = log.read(0, 1 << 30)
    assert (start, before) == (0, data[: len(before)])
    start, after = log.read(len(before), 1 << 30)
    assert after == data[start:]
    assert 2000 < start - len(before) < BLOCK_BYTES
    assert [(r.offset, r.end) for r in log.records() if isinstance(r, Gap)] == [(len(before), start)]


def test_a_broken_mark_costs_its_block_and_no_more(tmp_path: Path) -> None:
    data, content = big_log(tmp_path, 4)
    content[2 * BLOCK_BYTES + 5] ^= 1
    segments(tmp_path)[0].write_bytes(content)
    log = recover(tmp_path, LogLimits())
    assert log.end == len(data)
    before = log.read(0, 1 << 30)[1]
    after_start, after = log.read(len(before), 1 << 30)
    assert before + data[len(before) : after_start] + after == data
    for offset in range(0, len(data), 10_007):
        found, piece = log.read(offset, 10)
        assert found == (after_start if len(before) <= offset < after_start else offset)
        assert piece == data[found : found + len(piece)]


def test_recovery_reads_one_block_of_a_long_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = big_log(tmp_path, 8)
    read_bytes = 0
    real = os.pread

    def pread(fd: int, n_bytes: int, position: int) -> bytes:
        nonlocal read_bytes
        read_bytes += n_bytes
        return real(fd, n_bytes, position)

    monkeypatch.setattr(os, "pread", pread)
    assert recover(tmp_path, LogLimits()).end == len(data)
    assert read_bytes < BLOCK_BYTES + 1000


def test_a_cut_anywhere_near_a_block_can_be_gone_on_from(tmp_path: Path) -> None:
    data, content = big_log(tmp_path, 2)
    path = segments(tmp_path)[0]
    for cut in range(BLOCK_BYTES - 40, BLOCK_BYTES + 100):
        path.write_bytes(content[:cut])
        log = recover(tmp_path, LogLimits())
        held = log.end
        assert readable_bytes(log) == data[:held]
        log.append_output(held, data[held : held + 5000])
        log.close_file()
        assert readable_bytes(recover(tmp_path, LogLimits())) == data[: held + 5000]


def readable_bytes(log: SessionLog) -> bytes:
    start, data = log.read(0, 1 << 30)
    assert start == 0
    assert log.read(len(data), 1) == (log.end, b"")
    return data


def test_a_broken_middle_segment_is_a_gap_up_to_the_next(tmp_path: Path) -> None:
    limits = LogLimits(segment_bytes=1500)
    write(tmp_path, *[450] * 6, limits=limits)
    middle = segments(tmp_path)[1]
    content = bytearray(middle.read_bytes())
    content[SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + 450] ^= 1  # the second record's header
    middle.write_bytes(content)
    log = recover(tmp_path, limits)
    assert (log.base, log.end) == (0, 2700)
    begin = log.read(0, 10_000)
    assert begin[0] == 0
    after = log.read(len(begin[1]), 10_000)
    assert after[0] > len(begin[1])
    assert_true_to(readable(log), 2700)
    gaps = [record for record in log.records() if isinstance(record, Gap)]
    assert [(gap.offset, gap.end) for gap in gaps] == [(len(begin[1]), after[0])]


def test_a_broken_segment_header_is_a_gap_too(tmp_path: Path) -> None:
    limits = LogLimits(segment_bytes=500)
    write(tmp_path, *[450] * 3, limits=limits)
    first, middle, last = segments(tmp_path)
    content = bytearray(middle.read_bytes())
    content[20] ^= 1
    middle.write_bytes(content)
    log = recover(tmp_path, limits)
    assert log.recovery.set_aside == (middle.name,)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [first.name, middle.with_suffix(".broken").name, last.name]
    )
    assert log.read(450, 10) == (900, pattern(900, 10))


def test_segments_of_another_epoch_are_set_aside(tmp_path: Path) -> None:
    write(tmp_path, 100)
    log = SessionLog.recover(tmp_path, session_id="s", epoch="another", rows=24, cols=80)
    assert (log.end, len(log.recovery.set_aside)) == (0, 1)


def test_zeros_behind_the_end_are_cut(tmp_path: Path) -> None:
    """A power cut leaves a file of the right length whose last pages were never written."""
    write(tmp_path, 100)
    with segments(tmp_path)[0].open("ab") as file:
        file.write(bytes(8192))
    log = recover(tmp_path)
    assert (log.end, log.recovery.cut_bytes) == (100, 8192)


def test_records_of_a_kind_of_the_future_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 100)
    path = segments(tmp_path)[0]
    future = encode_record_header(99, 100, 1, b"new") + b"new"
    path.write_bytes(path.read_bytes() + future)
    log = recover(tmp_path)
    assert (log.end, log.recovery) == (100, Recovery())
    log.append_output(100, b"more")
    log.close_file()
    assert recover(tmp_path).read(0, 200) == (0, pattern(0, 100) + b"more")


def test_the_last_size_is_recovered(tmp_path: Path) -> None:
    log = write(tmp_path, 100)
    log.append(Resize(100, 1, 40, 100))
    log.close_file()
    assert recover(tmp_path).size == (40, 100)


def test_a_missing_directory_is_an_empty_log(tmp_path: Path) -> None:
    log = recover(tmp_path / "none")
    assert (log.base, log.end, log.disk_bytes) == (0, 0, 0)


def test_an_interrupted_deletion_of_output_loses_no_end(tmp_path: Path) -> None:
    log = write(tmp_path, 100)
    log.append(End(100, 1, 0, None))
    (tmp_path / "00000000000000000100-00000001.new").write_bytes(b"half")
    assert recover(tmp_path).ended == End(100, 1, 0, None)


def test_a_disk_that_cannot_be_read_is_a_log_error(tmp_path: Path) -> None:
    (tmp_path / f"{0:020d}-{0:08d}.seg").mkdir()
    with pytest.raises(LogError, match="cannot recover"):
        recover(tmp_path)
