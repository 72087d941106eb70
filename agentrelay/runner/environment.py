"""What of the runner's own environment its programs get."""

import os
from collections.abc import Mapping

TERM = "xterm-256color"
COLORTERM = "truecolor"

_OF_ANOTHER_TERMINAL = frozenset(
    {
        "COLORFGBG",
        "COLUMNS",
        "KITTY_WINDOW_ID",
        "LINES",
        "STY",
        "TERM_PROGRAM",
        "TERM_PROGRAM_VERSION",
        "TERM_SESSION_ID",
        "TMUX",
        "TMUX_PANE",
        "VTE_VERSION",
        "WEZTERM_PANE",
        "WINDOW",
        "WINDOWID",
    }
)
"""They describe the terminal the runner was started in; programs would draw for that one."""


def is_secret(name: str) -> bool:
    """Tell whether a variable is for AgentRelay alone, such as the runner's token."""
    return name == "RUNNER_TOKEN" or name.startswith("AGENTRELAY_")


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Give `environ` without what no program may see."""
    return {name: value for name, value in environ.items() if not is_secret(name)}


def program_environment(
    environ: Mapping[str, str], *, cwd: str, extra: Mapping[str, str], program: str | None = None
) -> dict[str, str]:
    """Make the whole environment of a program.

    Args:
        environ: the runner's own.
        cwd: the program's working directory.
        extra: what was asked for; it goes before everything else.
        program: where a preset's program was found. Its directory is appended to PATH, because what it needs
            (a Node.js installed by a version manager, say) often lies beside it.
    """
    env = {
        name: value for name, value in without_secrets(environ).items() if name not in _OF_ANOTHER_TERMINAL
    }
    env["TERM"] = TERM
    env["COLORTERM"] = COLORTERM
    env["PWD"] = cwd
    env.setdefault("PATH", os.defpath)
    env.setdefault("HOME", os.path.expanduser("~"))
    if not any(env.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG")):
        # A service has no locale, and without one programs take a terminal for one of 1970.
        env["LANG"] = "C.UTF-8"
    if program is not None and os.path.dirname(program) not in env["PATH"].split(os.pathsep):
        env["PATH"] += os.pathsep + os.path.dirname(program)
    env.update(extra)
    return env
