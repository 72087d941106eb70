"""`make run` with stand-ins for HQ and the runner: what it starts, what it says, what it leaves behind."""

import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

HQ = """#!{python}
import http.server, json, os, sys
if "--login-link" in sys.argv:
    print("http://127.0.0.1/#login=once")
    sys.exit()
if os.path.exists("hq-fails"):
    sys.exit("HQ cannot do it")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({{"runners": int(os.path.exists("runner.pid"))}}).encode())
    def log_message(self, *args):
        pass
with open("pid-of-hq", "w") as file:
    file.write(str(os.getpid()))
os.rename("pid-of-hq", "hq.pid")
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

RUNNER = """#!{python}
import os, signal, sys
if "--stop" in sys.argv:
    ignored = [name for name in ("SIGINT", "SIGTERM", "SIGHUP")
               if signal.getsignal(getattr(signal, name)) == signal.SIG_IGN]
    open("stopped", "w").write(" ".join(sys.argv[1:] + ignored))
    sys.exit()
open("environment", "w").write("\\n".join(sorted(os.environ)))
open("pid", "w").write(str(os.getpid()))
os.rename("pid", "runner.pid")
print("the runner says this", flush=True)
signal.pause()
"""


class Place:
    """A directory with stand-ins, in which `run_local` is started on a free port."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Commands are looked for beside the Python that runs.
        self.python = path / "python"
        self.python.symlink_to(Path(sys.executable).resolve())
        for name, text in (("agentrelay-hq", HQ), ("agentrelay-runner", RUNNER)):
            (path / name).write_text(text.format(python=sys.executable))
            (path / name).chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.run: subprocess.Popen[str] | None = None

    def start(self, **environment: str) -> subprocess.Popen[str]:
        self.run = subprocess.Popen(
            [self.python, "-m", "scripts.run_local"],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PORT": str(self.port), **environment},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self.run

    def start_and_wait(self, **environment: str) -> tuple[subprocess.Popen[str], list[str]]:
        """Start it; gives the process and what it had said when it was ready."""
        run = self.start(**environment)
        assert run.stdout is not None
        lines = list(itertools.takewhile(lambda line: not line.startswith("Ctrl-C"), run.stdout))
        assert run.poll() is None, lines
        return run, [line.strip() for line in lines]

    def pid(self, name: str) -> int:
        return int((self.path / f"{name}.pid").read_text())

    def runs_anew(self, name: str, before: int) -> bool:
        return self.pid(name) != before and self.is_left(name)

    def is_left(self, name: str) -> bool:
        try:
            os.kill(self.pid(name), 0)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    if place.run is not None and place.run.stdout is not None:
        place.run.kill()
        place.run.wait()
        place.run.stdout.close()


def test_prints_one_login_link_and_where_the_output_goes(place: Place) -> None:
    _, lines = place.start_and_wait()
    assert [line for line in lines if "#login=" in line] == ["http://127.0.0.1/#login=once"]
    assert f"runner  local-{place.port} (its output: .run/{place.port}/agentrelay-runner.log)" in lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_sessions_uninterrupted_and_leaves_no_process(
    place: Place, number: signal.Signals
) -> None:
    run, _ = place.start_and_wait()
    run.send_signal(number)
    assert run.wait(20) == 0
    assert (place.path / "stopped").read_text() == (
        f"--stop --runner-id local-{place.port} SIGINT SIGTERM SIGHUP"
    )
    assert not place.is_left("hq")
    assert not place.is_left("runner")


def test_leaves_no_process_when_the_terminal_is_gone(place: Place) -> None:
    run, _ = place.start_and_wait()
    assert run.stdout is not None
    run.stdout.close()
    run.send_signal(signal.SIGHUP)
    run.wait(20)
    assert not place.is_left("hq")
    assert not place.is_left("runner")


def test_being_killed_takes_hq_and_the_runner_along(place: Place) -> None:
    run, _ = place.start_and_wait()
    pidfds = [os.pidfd_open(place.pid(name)) for name in ("hq", "runner")]
    run.kill()
    for pidfd in pidfds:
        # Readable once the process has ended.
        assert select.select([pidfd], [], [], 20)[0]
        os.close(pidfd)


@pytest.mark.parametrize(("name", "said"), [("hq", "HQ"), ("runner", "The runner")])
def test_what_ends_by_itself_is_started_again_and_no_session_is_ended(
    place: Place, name: str, said: str
) -> None:
    run, _ = place.start_and_wait()
    assert run.stdout is not None
    before = place.pid(name)
    for _ in range(2):
        pidfd = os.pidfd_open(place.pid(name))
        os.kill(place.pid(name), signal.SIGKILL)
        assert next(line for line in run.stdout if line.strip()).startswith(f"{said} ended by itself and is")
        assert select.select([pidfd], [], [], 20)[0]
        os.close(pidfd)
        until(partial(place.runs_anew, name, before))
        before = place.pid(name)
    assert not (place.path / "stopped").exists()
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) == 0
    assert not place.is_left("hq")
    assert not place.is_left("runner")


def test_an_hq_that_does_not_come_up_again_ends_everything(place: Place) -> None:
    run, _ = place.start_and_wait()
    (place.path / "hq-fails").touch()
    os.kill(place.pid("hq"), signal.SIGKILL)
    output, _ = run.communicate(timeout=20)
    assert run.returncode == 1
    assert "HQ ended by itself. Its last lines:\n  HQ cannot do it\n" in output
    assert not place.is_left("runner")


def until(happens: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_an_hq_that_does_not_start_is_told_with_what_it_said(place: Place) -> None:
    (place.path / "hq-fails").touch()
    run = place.start()
    output, _ = run.communicate(timeout=20)
    assert run.returncode == 1
    assert "HQ ended by itself. Its last lines:\n  HQ cannot do it\n" in output
    assert not (place.path / "runner.pid").exists()


def test_a_taken_port_is_told_in_one_line(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.port)):
        output, _ = place.start().communicate(timeout=20)
    assert output == f"Port {place.port} is taken by another program. Choose another: PORT=9000 make run\n"


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_a_port_that_is_none_is_told_in_one_line(place: Place, port: str) -> None:
    run = place.start(PORT=port)
    output, _ = run.communicate(timeout=20)
    assert run.returncode == 1
    assert output == f"PORT={port} is not a port: choose a number from 1 to 65535.\n"


def test_programs_of_sessions_do_not_inherit_what_make_set(place: Place) -> None:
    place.start_and_wait(MAKEFLAGS="w", MAKELEVEL="1", EDITOR="vi")
    names = (place.path / "environment").read_text().split()
    assert {"EDITOR", "RUNNER_TOKEN"} <= set(names)
    assert not {"PORT", "MAKEFLAGS", "MAKELEVEL"} & set(names)
