"""`agentrelay-runner`: the command line of the runner."""

import os
import socket
import sys
from urllib.parse import urlsplit

import click

import agentrelay
from agentrelay.errors import AgentRelayError, ConfigError
from agentrelay.protocol.ids import is_runner_id

DEFAULT_HQ_URL = "ws://localhost:8080/ws/runner"
DEFAULT_TOKEN = "dev-token"  # noqa: S105 - what HQ takes from loopback when it is just tried out


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    try:
        usable = parts.scheme in ("ws", "wss") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"--hq-url {url!r} is not a WebSocket URL such as {DEFAULT_HQ_URL}")
    return url


def _check_runner_id(runner_id: str) -> str:
    if not is_runner_id(runner_id):
        raise ConfigError(f"--runner-id {runner_id!r} is not 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return runner_id


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--hq-url", envvar="HQ_URL", default=DEFAULT_HQ_URL, show_envvar=True, help="Where HQ takes runners."
)
@click.option(
    "--runner-id",
    envvar="RUNNER_ID",
    default=socket.gethostname,
    show_default="host name",
    show_envvar=True,
    help="Name of this runner: 1 to 64 characters of A-Z a-z 0-9 . _ -",
)
@click.option(
    "--token",
    envvar="RUNNER_TOKEN",
    default=DEFAULT_TOKEN,
    show_envvar=True,
    help="The runner token of HQ. Everybody on this machine can see the arguments of a process: prefer the "
    "variable.",
)
@click.option(
    "--stop",
    "stop_it",
    is_flag=True,
    help="End the daemon of this runner id, all its sessions and its keeper.",
)
@click.version_option(agentrelay.__version__, prog_name="agentrelay-runner", message="%(prog)s %(version)s")
def main(hq_url: str, runner_id: str, token: str, stop_it: bool) -> None:
    """Run coding agents on this machine for an AgentRelay HQ.

    The runner dials out to HQ; nothing has to be opened here. Sessions live in a process of their own, the
    keeper, and outlive the runner: stop it with Ctrl-C, start or upgrade it, and it goes on with them.

    Programs people can start by name are presets; ~/.config/agentrelay/presets.toml adds some of your own.
    """
    try:
        _check_runner_id(runner_id)
        if stop_it:
            from agentrelay.runner.stop import stop

            stop(runner_id, click.echo)
        else:
            _run(_check_url(hq_url), runner_id, token)
    except AgentRelayError as error:
        click.echo(f"agentrelay-runner: {error}", err=True)
        sys.exit(2)


def _run(hq_url: str, runner_id: str, token: str) -> None:
    if not token:
        raise ConfigError("the token is empty: set RUNNER_TOKEN to the runner token of HQ")
    import uvloop

    from agentrelay.log_lines import start_logging
    from agentrelay.runner.daemon import RunnerConfig, run_daemon
    from agentrelay.runner.paths import RUNNER_LOCK, lock_holder, open_runner_directory, take_lock
    from agentrelay.runner.presets import load_presets, user_file

    start_logging("%(asctime)s %(message)s")
    presets = load_presets(user_file())
    directory = open_runner_directory(runner_id)
    assert directory is not None
    if take_lock(directory, RUNNER_LOCK) is None:
        pid = lock_holder(directory, RUNNER_LOCK)
        advice = "end it, or choose another --runner-id"
        raise ConfigError(f"a runner with the id {runner_id} runs already (process {pid}): {advice}")
    # It is in this process's memory now; what it starts must not find it in the environment.
    os.environ.pop("RUNNER_TOKEN", None)
    uvloop.run(run_daemon(RunnerConfig(hq_url, runner_id, token), directory, presets))


if __name__ == "__main__":
    main()
