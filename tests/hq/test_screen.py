"""HQ's screens live in another process, and HQ outlives whatever happens to that."""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentrelay.hq.screen import Screen
from agentrelay.hq.screen import renderer as renderer_module
from agentrelay.hq.screen.local import LocalScreen
from agentrelay.hq.screen.renderer import Renderer
from agentrelay.hq.screen.wire import MAX_PIECE_BYTES

CORPORA = sorted((Path(__file__).parents[2] / "bench" / "corpora").glob("*.bin"))


@pytest.fixture(scope="module")
def shared() -> Iterator[Renderer]:
    """A renderer that lives through the tests that do it no harm."""
    renderer = Renderer()
    yield renderer
    renderer.close()


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    renderer = Renderer()
    yield renderer
    renderer.close()


def worker_of(renderer: Renderer) -> int:
    assert renderer.pid is not None
    return renderer.pid


def make(renderer: Renderer, output: bytes = b"", *, rows: int = 4, cols: int = 20) -> Screen:
    screen = Screen(rows=rows, cols=cols, renderer=renderer)
    screen.feed(output)
    return screen


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_it_renders_as_a_local_screen_does(corpus: Path, shared: Renderer) -> None:
    data = corpus.read_bytes()
    remote = make(shared, data, rows=24, cols=80)
    local = LocalScreen(rows=24, cols=80)
    local.feed(data)
    assert remote.text() == local.text()
    assert remote.snapshot() == local.snapshot()
    assert remote.snapshot(max_lines=3) == local.snapshot(max_lines=3)
    remote.resize(rows=10, cols=33)
    local.resize(rows=10, cols=33)
    assert remote.snapshot(max_bytes=100) == local.snapshot(max_bytes=100)


def test_output_larger_than_a_piece_is_one_stream(shared: Renderer) -> None:
    line = "漢字 wide and \x1b[31mred\x1b[m\r\n".encode()
    data = line * (2 * MAX_PIECE_BYTES // len(line)) + b"end"
    screen = make(shared, data)
    assert screen.text().text == ["漢字 wide and red"] * 3 + ["end"]


def test_sizes_apply_in_their_place(shared: Renderer) -> None:
    screen = make(shared, b"x" * 20)
    screen.resize(rows=4, cols=10)
    screen.resize(rows=5, cols=5)
    screen.feed(b"y")
    assert screen.text().text == ["xxxxx"] * 4 + ["y"]


@pytest.mark.parametrize(("rows", "cols"), [(0, 80), (24, 0), (-1, 80), (1001, 80), (24, 1001)])
def test_sizes_out_of_range_are_refused(rows: int, cols: int, shared: Renderer) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        make(shared, rows=rows, cols=cols)
    screen = make(shared, b"shown")
    with pytest.raises(ValueError, match="1 to 1000"):
        screen.resize(rows=rows, cols=cols)
    assert screen.text().text[0] == "shown"


def test_the_largest_snapshot_fits(shared: Renderer) -> None:
    screen = make(shared, rows=1000, cols=1000)
    for row in range(1000):
        screen.feed("".join(f"\x1b[38;5;{(row + col) % 256}mx" for col in range(1000)).encode())
    snapshot = screen.snapshot()
    assert snapshot is not None
    assert len(snapshot) > 10_000_000


def test_making_resizing_and_closing_do_not_wait(renderer: Renderer) -> None:
    renderer.start()
    os.kill(worker_of(renderer), signal.SIGSTOP)
    screen = Screen(rows=24, cols=80, renderer=renderer)
    screen.resize(rows=10, cols=10)
    screen.close()
    os.kill(worker_of(renderer), signal.SIGCONT)


def test_a_closed_screen_takes_nothing(shared: Renderer) -> None:
    screen = make(shared, b"x")
    screen.close()
    screen.close()
    for call in (screen.snapshot, screen.text, lambda: screen.feed(b"x")):
        with pytest.raises(ValueError, match="closed"):
            call()


def memory_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


def test_screens_that_are_dropped_give_their_memory_back(renderer: Renderer) -> None:
    data = b"".join(b"\x1b[3%dmline %d\r\n" % (n % 8, n) for n in range(2000))

    def use_many() -> int:
        for n in range(100):
            screen = make(renderer, data, rows=24, cols=80)
            if n % 2:
                screen.close()
            del screen
        gc.collect()
        return memory_kib(worker_of(renderer))

    use_many()
    before = use_many()
    assert use_many() < before + 20_000


def test_a_worker_that_ends_loses_the_screens_and_no_more(renderer: Renderer) -> None:
    screens = [make(renderer, b"shown") for _ in range(3)]
    assert [screen.text().text[0] for screen in screens] == ["shown"] * 3
    first = worker_of(renderer)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert screens[0].feed(b"more", answer=True) == b""
    assert (screens[0].lost, screens[0].to_blame) == (True, False), "it had nothing to do with it"
    assert (screens[1].snapshot(), screens[1].lost, screens[1].to_blame) == (None, True, False)
    assert screens[2].text().text[0] == "shown"  # as it was seen last
    assert screens[2].lost
    again = make(renderer, b"again")
    assert again.text().text[0] == "again"
    assert worker_of(renderer) != first
    assert screens[1].snapshot() is None
    del screens  # of the worker before: they are not freed in this one
    assert again.text().text[0] == "again"


def test_a_worker_that_hangs_is_ended(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer_module, "ANSWER_S", 0.2)
    screen = Screen(rows=4, cols=20, renderer=renderer)
    renderer.start()
    worker = worker_of(renderer)
    os.kill(worker, signal.SIGSTOP)
    screen.feed(b"x")
    assert (screen.lost, screen.to_blame) == (True, True)
    assert not Path(f"/proc/{worker}").exists()


def test_a_worker_ends_with_its_socket(renderer: Renderer) -> None:
    make(renderer, b"x")
    process = renderer._process
    assert process is not None
    assert renderer._socket is not None
    renderer._socket.close()
    assert process.wait(timeout=30) == 0


def test_the_worker_knows_no_secret(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTRELAY_ADMIN_TOKEN", "secret")
    monkeypatch.setenv("RUNNER_TOKEN", "secret")
    private = os.memfd_create("private", 0)
    os.set_inheritable(private, True)
    make(renderer, b"x")
    process = Path(f"/proc/{worker_of(renderer)}")
    assert b"secret" not in (process / "environ").read_bytes()
    descriptors = [os.readlink(path) for path in (process / "fd").iterdir()]
    assert not [name for name in descriptors if "private" in name]
    assert len([name for name in descriptors if name.startswith("socket:")]) == 1
    os.close(private)


def test_a_renderer_that_cannot_be_started_leaves_the_screen_lost(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    screen = make(renderer, b"x")
    assert (screen.lost, screen.to_blame) == (True, False)
    assert screen.text().text == [""] * 4


def test_threads_take_turns(shared: Renderer) -> None:
    data = CORPORA[0].read_bytes()[:50_000]
    expected = make(shared, data, rows=24, cols=80).snapshot()

    def use() -> bytes | None:
        return make(shared, data, rows=24, cols=80).snapshot()

    with ThreadPoolExecutor(8) as pool:
        assert {call.result() for call in [pool.submit(use) for _ in range(40)]} == {expected}
    assert threading.active_count() < 20


def test_answers_are_checked_on_this_side(shared: Renderer) -> None:
    screen = make(shared)
    assert screen.feed(b"\x1b[c\x1b[21t\x1b[6n", answer=True) == b"\x1b[?1;2c\x1b[1;1R"
    assert screen.feed(b"\x1b[c") == b""
