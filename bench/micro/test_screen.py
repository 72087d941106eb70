"""What rendering a screen costs: feeding it, and making a snapshot.

    python -m pytest bench/micro/test_screen.py -s --benchmark-columns=median,min,max,rounds

In CPU time of the process that renders; what HQ itself pays for it is `test_feed_from_hq`. `test_floor`
copies the same bytes once.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from agentrelay.hq.screen import RENDERER, Screen
from agentrelay.hq.screen.local import LocalScreen

CORPORA = sorted((Path(__file__).parents[1] / "corpora").glob("*.bin"))
FEED_BYTES = 4 << 20
LINES = 1024

pytestmark = pytest.mark.benchmark(timer=time.process_time, max_time=0.5, min_rounds=5)


def repeated(corpus: Path) -> bytes:
    data = corpus.read_bytes()
    return data * (FEED_BYTES // len(data))


def per_second(benchmark: BenchmarkFixture, n_bytes: int) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["mb_per_s"] = round(n_bytes / benchmark.stats.stats.median / 1e6, 1)
        print(f"\n{benchmark.name}: {benchmark.extra_info['mb_per_s']} MB/s")


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_feed(benchmark: BenchmarkFixture, corpus: Path) -> None:
    benchmark.group = "feed"
    data = repeated(corpus)
    screen = LocalScreen(rows=24, cols=80)
    benchmark(screen.feed, data)
    per_second(benchmark, len(data))


def test_feed_from_hq(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "feed"
    data = repeated(CORPORA[0])
    screen = Screen(rows=24, cols=80)
    benchmark(screen.feed, data)
    per_second(benchmark, len(data))
    RENDERER.close()


def test_floor(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "feed"
    data = repeated(CORPORA[0])
    benchmark(bytearray, data)
    per_second(benchmark, len(data))


def plain(n: int) -> str:
    return f"{n:6} the function reads every record and returns what it found, in their order"


def colored(n: int) -> str:
    return "".join(f"\x1b[3{(n + word) % 8}mword {word:2} " for word in range(8)) + "\x1b[m"


def emoji(n: int) -> str:
    return f"\x1b[3{n % 8}m● line {n}\x1b[m ✅ 漢字 e\u0301 with wide characters in it"


@pytest.mark.parametrize("line", [plain, colored, emoji], ids=lambda line: line.__name__)
def test_snapshot_of_a_full_scrollback(benchmark: BenchmarkFixture, line: Callable[[int], str]) -> None:
    """24 rows of 80 columns and 1,000 lines of scrollback."""
    benchmark.group = "snapshot"
    screen = LocalScreen(rows=24, cols=80)
    for n in range(LINES):
        screen.feed(f"{line(n)}\r\n".encode())
    snapshot = benchmark(screen.snapshot)
    assert snapshot is not None
    assert snapshot.count(b"\r\n") == 1000 + 23


@pytest.mark.parametrize("corpus", ["agent", "vim", "htop"])
def test_snapshot_of_a_program(benchmark: BenchmarkFixture, corpus: str) -> None:
    benchmark.group = "snapshot"
    data = next(path for path in CORPORA if path.stem == corpus).read_bytes()
    screen = LocalScreen(rows=24, cols=80)
    screen.feed(data[: len(data) // 2])
    assert benchmark(screen.snapshot)


def test_text(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "text"
    screen = LocalScreen(rows=24, cols=80)
    for n in range(LINES):
        screen.feed(f"{colored(n)}\r\n".encode())
    assert len(benchmark(screen.text).text) == 24
