"""From what was asked for to what is started: command, working directory, environment."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from agentrelay.errors import StartFailed
from agentrelay.protocol.messages import Start
from agentrelay.runner.environment import program_environment
from agentrelay.runner.presets import SHELL, Preset, find_preset


class Launch(NamedTuple):
    """What the keeper is asked to start."""

    command: list[str]
    cwd: str
    env: dict[str, str]


def plan_launch(
    asked: Start, presets: Mapping[str, Preset], environ: Mapping[str, str] = os.environ
) -> Launch:
    """Decide what `asked` stands for on this machine. `command` goes before `preset`.

    Raises:
        StartFailed: code `unknown_preset`, or `command_not_found` for a preset whose program is not here.
    """
    cwd = _directory(asked.cwd, environ)
    if asked.command:
        program, *arguments = asked.command
        command = [_expanded(program, environ), *arguments]
        return Launch(command, cwd, program_environment(environ, cwd=cwd, extra=asked.env))
    name = asked.preset or SHELL
    preset = presets.get(name)
    if preset is None:
        raise StartFailed("unknown_preset", f"there is no preset {name!r}; there are: {', '.join(presets)}")
    found = find_preset(name, preset, environ)
    if found is None:
        where = ", ".join(["the PATH", *preset.places])
        raise StartFailed("command_not_found", f"{preset.label} is not on this machine (looked in {where})")
    env = program_environment(environ, cwd=cwd, extra=asked.env, program=found.path)
    return Launch(found.command, cwd, env)


def _directory(asked: str | None, environ: Mapping[str, str]) -> str:
    """Give the absolute path of the working directory; what is relative is so to the home directory."""
    home = _expanded("~", environ)
    if not asked:
        return home if os.path.isdir(home) else "/"
    return os.path.normpath(os.path.join(home, _expanded(asked, environ)))


def _expanded(path: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME")
    if home and (path == "~" or path.startswith("~/")):
        return home + path[1:]
    return os.path.expanduser(path)
