"""What is started for what was asked."""

from pathlib import Path

import pytest

from agentrelay.errors import StartFailed
from agentrelay.protocol.messages import Start
from agentrelay.runner.launch import plan_launch
from agentrelay.runner.presets import Preset, load_presets

PRESETS = load_presets(Path("/no/such/file"))


def start(**fields: object) -> Start:
    return Start(session_id="s", stream=1, limit=0, **fields)  # type: ignore[arg-type]


def test_nothing_asked_for_is_the_login_shell_at_home(tmp_path: Path) -> None:
    launch = plan_launch(start(), PRESETS, {"SHELL": "/bin/sh", "HOME": str(tmp_path)})
    assert launch.command == ["/bin/sh", "-l"]
    assert launch.cwd == str(tmp_path)


def test_a_command_is_taken_as_it_is(tmp_path: Path) -> None:
    launch = plan_launch(start(command=["ls", "~", "$HOME"]), PRESETS, {"HOME": str(tmp_path)})
    assert launch.command == ["ls", "~", "$HOME"]


def test_a_command_goes_before_a_preset() -> None:
    assert plan_launch(start(command=["ls"], preset="claude"), PRESETS, {}).command == ["ls"]


@pytest.mark.parametrize(
    ("cwd", "expected"),
    [
        ("~", "{home}"),
        ("~/code", "{home}/code"),
        ("code/../docs", "{home}/docs"),
        ("/srv", "/srv"),
        ("", "{home}"),
        ("~root", "/root"),
    ],
)
def test_the_working_directory_is_seen_from_home(tmp_path: Path, cwd: str, expected: str) -> None:
    launch = plan_launch(start(command=["ls"], cwd=cwd), PRESETS, {"HOME": str(tmp_path)})
    assert launch.cwd == expected.format(home=tmp_path)
    assert launch.env["PWD"] == launch.cwd


def test_a_program_in_the_home_directory_is_found(tmp_path: Path) -> None:
    launch = plan_launch(start(command=["~/bin/tool"]), PRESETS, {"HOME": str(tmp_path)})
    assert launch.command == [f"{tmp_path}/bin/tool"]


def test_a_user_without_a_home_works_in_the_root() -> None:
    assert plan_launch(start(command=["ls"]), PRESETS, {"HOME": "/nonexistent"}).cwd == "/"


def test_a_preset_is_started_with_its_arguments(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("")
    program.chmod(0o755)
    presets = {"tool": Preset(label="Tool", find=["tool"], places=[str(tmp_path)], arguments=["--tui"])}
    launch = plan_launch(start(preset="tool", env={"A": "1"}), presets, {"PATH": "/bin"})
    assert launch.command == [str(program), "--tui"]
    assert launch.env["PATH"] == f"/bin:{tmp_path}"
    assert launch.env["A"] == "1"


@pytest.mark.parametrize(
    ("preset", "code", "sentence"),
    [
        ("emacs", "unknown_preset", "no preset 'emacs'; there are: claude, codex"),
        ("claude", "command_not_found", "Claude Code is not on this machine"),
    ],
)
def test_a_preset_that_cannot_be_started_says_why(preset: str, code: str, sentence: str) -> None:
    presets = PRESETS | {"claude": Preset(label="Claude Code", find=["claude"])}
    with pytest.raises(StartFailed, match=sentence) as failed:
        plan_launch(start(preset=preset), presets, {"PATH": "/nowhere"})
    assert failed.value.code == code
