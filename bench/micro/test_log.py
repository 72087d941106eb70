"""What the output log costs: CPU seconds per GB written and read back, and recovery.

    python -m pytest bench/micro/test_log.py -s --benchmark-columns=median,min,max,rounds

Times are CPU time of the whole process, all threads and system calls included, so that a slow disk does not
count. `test_floor` is what the kernel takes for the same bytes; `cpu_s_per_gb` is in the results.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from agentrelay.fastpath import ByteRing
from agentrelay.hq.log.budget import LogBudget
from agentrelay.hq.log.format import BLOCK_BYTES, Output
from agentrelay.hq.log.session_log import LogLimits, SessionLog
from agentrelay.hq.log.writer import LogWriter

MIB = 1 << 20
BATCH_BYTES = 128 * 1024  # what one receive of a busy link brings
ROUND_BYTES = 256 * MIB
LIMITS = LogLimits()

pytestmark = pytest.mark.benchmark(timer=time.process_time, warmup=False)


@pytest.fixture(params=["tmpfs", "disk"])
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    parent = "/dev/shm" if request.param == "tmpfs" else os.environ.get("TMPDIR", "/var/tmp")
    with tempfile.TemporaryDirectory(dir=parent, prefix="bench-log-") as name:
        yield Path(name)


def per_gb(benchmark: BenchmarkFixture, n_bytes: int) -> None:
    if benchmark.stats is not None:
        times = benchmark.stats.stats
        figures = [round(value / n_bytes * 1e9, 2) for value in (times.median, times.min, times.max)]
        benchmark.extra_info["cpu_s_per_gb"] = figures[0]
        print(f"\n{benchmark.name}: {figures[0]} CPU-s/GB ({figures[1]} to {figures[2]})")


def make_log(directory: Path, limits: LogLimits = LIMITS) -> SessionLog:
    name = f"{time.monotonic_ns()}"
    return SessionLog(directory / name, session_id=name, epoch="e", rows=24, cols=80, limits=limits)


async def relay(log: SessionLog | None, batch: bytes, n_bytes: int) -> None:
    """Put bytes into a ring as the link does; with a log, record them and wait for room as the link does."""
    ring = ByteRing(8 * MIB)
    if log is None:
        for _ in range(n_bytes // len(batch)):
            ring.append(batch)
        return
    room = asyncio.Event()
    writer = LogWriter(LogBudget(1 << 40))
    writer.start()

    def on_logged(offset: int) -> None:
        ring.keep = offset
        room.set()

    recording = writer.follow(log, ring, on_logged=on_logged, on_failed=pytest.fail)
    ring.keep = 0
    for _ in range(n_bytes // len(batch)):
        while ring.room_bytes < len(batch):
            room.clear()
            await room.wait()
        ring.append(batch)
        recording.wake()
        await asyncio.sleep(0)
    await recording.flush()
    await writer.close()


def test_ring_alone(benchmark: BenchmarkFixture) -> None:
    batch = os.urandom(BATCH_BYTES)
    benchmark.pedantic(lambda: asyncio.run(relay(None, batch, ROUND_BYTES)), rounds=5, warmup_rounds=1)
    per_gb(benchmark, ROUND_BYTES)


def test_ring_and_log(benchmark: BenchmarkFixture, directory: Path) -> None:
    batch = os.urandom(BATCH_BYTES)

    def once() -> None:
        log = make_log(directory)
        asyncio.run(relay(log, batch, ROUND_BYTES))
        assert log.end == ROUND_BYTES
        log.delete()

    benchmark.pedantic(once, rounds=5, warmup_rounds=1)
    per_gb(benchmark, ROUND_BYTES)


@pytest.mark.parametrize("record_kib", [4, 64, 256, 1024])
def test_append(benchmark: BenchmarkFixture, directory: Path, record_kib: int) -> None:
    data = memoryview(os.urandom(record_kib * 1024))

    def once() -> None:
        log = make_log(directory)
        for _ in range(ROUND_BYTES // len(data)):
            log.append_output(log.end, data)
        log.delete()

    benchmark.pedantic(once, rounds=5, warmup_rounds=1)
    per_gb(benchmark, ROUND_BYTES)


def test_floor(benchmark: BenchmarkFixture, directory: Path) -> None:
    """What the kernel takes for the same bytes in files of the same size."""
    data = os.urandom(256 * 1024)

    def once() -> None:
        for n in range(ROUND_BYTES // LIMITS.segment_bytes):
            fd = os.open(directory / f"{n}", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            for _ in range(LIMITS.segment_bytes // len(data)):
                os.writev(fd, [data])
            os.fdatasync(fd)
            os.close(fd)
            if n >= 4:
                os.unlink(directory / f"{n - 4}")

    benchmark.pedantic(once, rounds=5, warmup_rounds=1)
    per_gb(benchmark, ROUND_BYTES)


@pytest.mark.parametrize("record_bytes", [100, 4096, 256 * 1024])
def test_recover_a_full_segment(benchmark: BenchmarkFixture, directory: Path, record_bytes: int) -> None:
    """With half a block behind the last mark, as it is on average."""
    log = make_log(directory, LogLimits(segment_bytes=17 * MIB))
    data = bytes(record_bytes)
    while log.disk_bytes < 16 * MIB - BLOCK_BYTES // 2:
        log.append_output(log.end, data)
    log.close_file()
    recovered = benchmark(
        lambda: SessionLog.recover(
            log.directory, session_id=log.session_id, epoch="e", rows=24, cols=80, limits=LIMITS
        )
    )
    assert recovered.end == log.end


def test_read_back(benchmark: BenchmarkFixture, directory: Path) -> None:
    log = make_log(directory)
    data = os.urandom(256 * 1024)
    while log.end < 64 * MIB:
        log.append_output(log.end, data)
    log.close_file()

    def once() -> int:
        start = 0
        while (answer := log.read(start, MIB))[1]:
            start = answer[0] + len(answer[1])
        return start

    assert benchmark(once) == log.end
    assert sum(len(r.data) for r in log.records() if isinstance(r, Output)) == log.end
    per_gb(benchmark, log.end)
