"""Presets are data: what comes with the package, what a user adds, what is on this machine."""

from pathlib import Path

import pytest

from agentrelay.errors import ConfigError
from agentrelay.runner.presets import find_preset, installed, load_presets, user_file

NONE = Path("/no/such/file")


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_built_in_ones() -> None:
    presets = load_presets(NONE)
    assert list(presets) == ["claude", "codex", "gemini", "copilot", "aider", "opencode", "shell"]
    for preset in presets.values():
        assert preset.label
        assert preset.note


def test_a_program_is_found_on_the_path_before_anywhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    claude = load_presets(NONE)["claude"]
    environ = {"PATH": f"relative::{tmp_path}/bin"}
    assert find_preset("claude", claude, environ) is None
    installed_at = program(tmp_path / ".claude/local/claude")
    found = find_preset("claude", claude, environ)
    assert found is not None
    assert found.command == [str(installed_at)]
    on_path = program(tmp_path / "bin/claude")
    assert [one.path for one in installed({"claude": claude}, environ)] == [str(on_path)]


def test_the_newest_of_several_versions_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for version in ("v20.1.0", "v22.4.0", "v9.11.0"):
        program(tmp_path / f".nvm/versions/node/{version}/bin/gemini")
    found = find_preset("gemini", load_presets(NONE)["gemini"], {"PATH": "/nowhere"})
    assert found is not None
    assert found.path == str(tmp_path / ".nvm/versions/node/v22.4.0/bin/gemini")


def test_a_file_that_may_not_be_executed_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "aider").write_text("")
    (tmp_path / "codex").mkdir()
    presets = load_presets(NONE)
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    assert find_preset("aider", presets["aider"], environ) is None
    assert find_preset("codex", presets["codex"], environ) is None


@pytest.mark.parametrize(
    ("shell", "expected"),
    [("$own", "$own"), ("/no/such/shell", "/bin/bash"), ("", "/bin/bash"), ("bash", "/bin/bash")],
)
def test_the_shell_is_the_users_or_bash(tmp_path: Path, shell: str, expected: str) -> None:
    own = str(program(tmp_path / "zsh"))
    environ = {"SHELL": shell.replace("$own", own)}
    found = find_preset("shell", load_presets(NONE)["shell"], environ)
    assert found is not None
    assert found.command == [expected.replace("$own", own), "-l"]


def test_a_user_adds_changes_and_hides(tmp_path: Path) -> None:
    own = tmp_path / "presets.toml"
    own.write_text(
        """
        places = ["/opt/tools"]
        [claude]
        arguments = ["--continue"]
        [top]
        find = ["top"]
        [aider]
        hidden = true
        """
    )
    presets = load_presets(own)
    assert presets["claude"].arguments == ["--continue"]
    assert presets["claude"].label == "Claude Code"
    assert presets["claude"].places == ["~/.claude/local", "/opt/tools"]
    assert presets["top"].label == "top"
    assert "aider" not in presets


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[claude", "Expected '\\]'"),
        ("claude = 1", "not a table"),
        ("places = 'everywhere'", "array"),
        ("[mine]\nlabel = 'Mine'", "find"),
        ("[claude]\nargumets = []", "argumets"),
        ("[claude]\nfind = 'claude'", "array"),
    ],
)
def test_a_mistake_in_the_users_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    own = tmp_path / "presets.toml"
    own.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as error:
        load_presets(own)
    assert str(own) in str(error.value)


def test_the_users_file_is_in_the_configuration_directory() -> None:
    assert user_file({"XDG_CONFIG_HOME": "/etc/me"}) == Path("/etc/me/agentrelay/presets.toml")
    assert user_file({}) == Path("~/.config/agentrelay/presets.toml").expanduser()
