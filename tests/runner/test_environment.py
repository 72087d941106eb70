"""What of the runner's environment reaches a program."""

from agentrelay.runner.environment import program_environment

RUNNER = {"PATH": "/usr/bin", "HOME": "/home/ann", "LANG": "de_DE.UTF-8"}


def test_secrets_never_do() -> None:
    env = program_environment(
        RUNNER | {"RUNNER_TOKEN": "secret", "AGENTRELAY_ADMIN_TOKEN": "secret", "AGENTRELAY_DATA_DIR": "/x"},
        cwd="/",
        extra={},
    )
    assert not {name for name in env if "TOKEN" in name or "AGENTRELAY" in name}


def test_the_terminal_is_ours_and_not_the_one_the_runner_was_started_in() -> None:
    outer = {"TERM": "screen", "TMUX": "/tmp/tmux", "COLUMNS": "80", "TERM_PROGRAM": "vscode"}
    env = program_environment(RUNNER | outer, cwd="/work", extra={})
    assert env == RUNNER | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PWD": "/work"}


def test_what_was_asked_for_goes_first() -> None:
    env = program_environment(RUNNER, cwd="/", extra={"LANG": "C", "TERM": "vt100", "NEW": "1"})
    assert (env["LANG"], env["TERM"], env["NEW"]) == ("C", "vt100", "1")


def test_without_a_locale_text_is_utf_8() -> None:
    assert program_environment({"PATH": "/bin"}, cwd="/", extra={})["LANG"] == "C.UTF-8"
    assert "LANG" not in program_environment({"LC_ALL": "C"}, cwd="/", extra={})


def test_what_lies_beside_a_preset_is_found() -> None:
    env = program_environment(RUNNER, cwd="/", extra={}, program="/opt/node/bin/claude")
    assert env["PATH"] == "/usr/bin:/opt/node/bin"
    assert program_environment(RUNNER, cwd="/", extra={}, program="/usr/bin/claude")["PATH"] == "/usr/bin"
