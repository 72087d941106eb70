"""The command line of the runner: what it takes and what it says when it cannot go on."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

import agentrelay
from agentrelay.cli.runner import main
from agentrelay.runner.paths import RUNNER_LOCK, open_runner_directory, take_lock


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("HQ_URL", "RUNNER_ID", "RUNNER_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str, **env: str) -> tuple[int, str]:
    """Run the command; give its exit status and everything it printed."""
    result = CliRunner().invoke(main, list(arguments), env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_version() -> None:
    assert run("--version") == (0, f"agentrelay-runner {agentrelay.__version__}\n")


def test_help_names_every_flag_its_variable_and_its_default() -> None:
    status, text = run("--help")
    assert status == 0
    text = " ".join(text.split())
    for flag, variable, default in (
        ("--hq-url", "HQ_URL", "ws://localhost:8080/ws/runner"),
        ("--runner-id", "RUNNER_ID", "(host name)"),
        ("--token", "RUNNER_TOKEN", "dev-token"),
    ):
        assert flag in text
        assert f"[env var: {variable}; default: {default}]" in text
    assert "prefer the variable" in text
    assert "--stop" in text
    assert "presets.toml" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--hq-url", "http://hq"), "--hq-url 'http://hq' is not a WebSocket URL such as ws://"),
        (("--hq-url", "ws://"), "is not a WebSocket URL"),
        (("--hq-url", "ws://hq:port/"), "is not a WebSocket URL"),
        (("--hq-url", "ws://hq:0/"), "is not a WebSocket URL"),
        (("--runner-id", "a b"), "--runner-id 'a b' is not 1 to 64 characters"),
        (("--runner-id", ""), "is not 1 to 64 characters"),
        (("--runner-id", "x" * 65), "is not 1 to 64 characters"),
        (("--token", ""), "the token is empty: set RUNNER_TOKEN"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: tuple[str, ...], sentence: str) -> None:
    status, text = run(*arguments)
    assert status == 2
    assert text.startswith("agentrelay-runner: ")
    assert sentence in text
    assert text.count("\n") == 1


def test_a_flag_beats_its_variable() -> None:
    assert "'from-flag!'" in run("--runner-id", "from-flag!", RUNNER_ID="from-variable!")[1]
    assert "'from-variable!'" in run(RUNNER_ID="from-variable!")[1]


def test_a_second_runner_of_the_same_id_is_refused() -> None:
    directory = open_runner_directory("box")
    assert directory is not None
    lock = take_lock(directory, RUNNER_LOCK)
    assert lock is not None
    status, text = run("--runner-id", "box")
    lock.release()
    directory.close()
    assert status == 2
    assert f"a runner with the id box runs already (process {os.getpid()})" in text


def test_a_mistake_in_the_users_presets_is_said_in_one_line(tmp_path: Path) -> None:
    own = tmp_path / "agentrelay" / "presets.toml"
    own.parent.mkdir()
    own.write_text("[mine]\nfind = 'top'\n")
    status, text = run("--runner-id", "box")
    assert status == 2
    assert text.startswith(f"agentrelay-runner: {own}: Expected `array`")


def test_stop_where_nothing_runs_is_fine() -> None:
    assert run("--stop", "--runner-id", "box") == (0, "Nothing runs for runner id box.\n")
    directory = open_runner_directory("box")
    assert directory is not None
    directory.close()
    status, text = run("--stop", "--runner-id", "box")
    assert (status, text) == (0, f"Nothing runs for runner id box (looked in {directory.path}).\n")
