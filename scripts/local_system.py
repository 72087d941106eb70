"""What `make run` calls things on this machine: by port, so that two runs of it never meet."""

import os
import subprocess
import sys
from pathlib import Path

DEFAULT_PORT = 8080
LOGIN_LINK_S = 20.0


class NoLoginLink(Exception):
    """No login link could be made; the message is what `agentrelay-hq` said."""


def command(name: str) -> str:
    """Path of one of AgentRelay's commands, `agentrelay-hq` or `agentrelay-runner`, beside this Python."""
    return str(Path(sys.executable).with_name(name))


def data_dir(port: int) -> Path:
    """HQ's data directory: AGENTRELAY_DATA_DIR, else HQ's own default, else, for another port, one beside it.

    Two HQs must not share one, and HQs of one machine differ in their ports.
    """
    if chosen := os.environ.get("AGENTRELAY_DATA_DIR"):
        return Path(chosen)
    default = Path.home() / ".local/share/agentrelay"
    return default if port == DEFAULT_PORT else default.with_name(f"agentrelay-{port}")


def runner_id(port: int) -> str:
    """Id of the local runner: RUNNER_ID, else one of its own for each port.

    Not the hostname: a runner finds its keeper by its id alone, and this machine may have a real runner of
    that name.
    """
    return os.environ.get("RUNNER_ID") or ("local" if port == DEFAULT_PORT else f"local-{port}")


def make_login_link(port: int) -> str:
    """Have a link made that logs a browser in once, to the HQ of this machine that has `data_dir(port)`.

    Raises:
        NoLoginLink: that directory cannot be used.
    """
    made = subprocess.run(
        [command("agentrelay-hq"), "--login-link", "--host", "127.0.0.1", "--data-dir", str(data_dir(port))],
        capture_output=True,
        text=True,
        check=False,
        timeout=LOGIN_LINK_S,
    )
    if made.returncode != 0:
        raise NoLoginLink(made.stderr.strip())
    return made.stdout.strip()
