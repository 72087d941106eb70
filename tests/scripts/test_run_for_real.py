"""`make run` and `make verify` with the real HQ and runner."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrelay.runner.paths import KEEPER_LOCK, RUNNER_LOCK, lock_holder, open_runner_directory

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which the programs keep everything below `tmp_path`, and a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ours = {"RUNNER_ID", "HQ_URL", "HOST", "RUNNER_TOKEN", "AGENTRELAY_ADMIN_TOKEN", "AGENTRELAY_PUBLIC_URL"}
    return {name: value for name, value in os.environ.items() if name not in ours} | {
        "AGENTRELAY_DATA_DIR": str(tmp_path / "data"),
        "PORT": str(port),
        "PYTHONPATH": str(ROOT),
        "XDG_RUNTIME_DIR": str(tmp_path),
    }


@pytest.fixture
def running(tmp_path: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    run = subprocess.Popen(
        [sys.executable, "-m", "scripts.run_local"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    lines = list(itertools.takewhile(lambda line: not line.startswith("Ctrl-C"), run.stdout))
    assert run.poll() is None, lines
    yield run
    run.terminate()
    run.communicate()


def verify(environment: dict[str, str], *arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.verify", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_verify_passes_and_ctrl_c_ends_everything(
    running: subprocess.Popen[str], environment: dict[str, str]
) -> None:
    status, lines = verify(environment)
    assert lines[-1] == "6 passed, 0 failed", lines
    assert status == 0

    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 0
    directory = open_runner_directory(f"local-{environment['PORT']}", environment, create=False)
    assert directory is not None
    assert lock_holder(directory, KEEPER_LOCK) is None
    assert lock_holder(directory, RUNNER_LOCK) is None
    directory.close()
    status, lines = verify(environment)
    assert status == 1
    assert lines == [f"FAIL  health: GET /health: {lines[0].partition('/health: ')[2]}", "0 passed, 1 failed"]


@pytest.mark.usefixtures("running")
def test_verify_says_what_it_was_not_let_in_for(environment: dict[str, str], tmp_path: Path) -> None:
    status, lines = verify(environment | {"AGENTRELAY_ADMIN_TOKEN": "not-the-token"})
    assert status == 1
    assert lines[1] == "FAIL  login: HQ does not take AGENTRELAY_ADMIN_TOKEN"

    status, lines = verify(environment, "--no-login")
    assert status == 1
    assert lines[1] == "FAIL  login: HQ wants a login"

    elsewhere = str(tmp_path / "elsewhere")
    status, lines = verify(environment | {"AGENTRELAY_DATA_DIR": elsewhere})
    assert status == 1
    assert lines[1].startswith("FAIL  login: POST /api/login gave 401")
    assert elsewhere in lines[1]
