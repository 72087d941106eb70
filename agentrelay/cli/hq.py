"""`agentrelay-hq`: its command line, and nothing but."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TypeVar

import click

import agentrelay
from agentrelay.errors import ConfigError
from agentrelay.hq.config import DEV_CREDENTIAL, HqConfig, login_link

_Value = TypeVar("_Value", str, str | None)

_PREFER_VARIABLE = "Every user of this machine can see arguments: prefer the variable."


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(agentrelay.__version__, prog_name="agentrelay-hq", message="%(prog)s %(version)s")
@click.option("--host", envvar="HOST", default="127.0.0.1", show_envvar=True, help="Address to listen on.")
@click.option("--port", envvar="PORT", type=int, default=8080, show_envvar=True, help="Port to listen on.")
@click.option(
    "--data-dir",
    envvar="AGENTRELAY_DATA_DIR",
    default="~/.local/share/agentrelay",
    metavar="DIRECTORY",
    show_envvar=True,
    help="Where the database and the output logs are kept. One HQ at a time.",
)
@click.option(
    "--runner-token",
    envvar="RUNNER_TOKEN",
    show_envvar=True,
    show_default=False,
    help=f"Token runners connect with; without one {DEV_CREDENTIAL}, on loopback only. {_PREFER_VARIABLE}",
)
@click.option(
    "--admin-token",
    envvar="AGENTRELAY_ADMIN_TOKEN",
    show_envvar=True,
    help=f"Fixed bearer token for automation; opens everything but the runners' socket. {_PREFER_VARIABLE}",
)
@click.option(
    "--public-url",
    "public_urls",
    envvar="AGENTRELAY_PUBLIC_URL",
    multiple=True,
    metavar="ORIGIN",
    show_envvar=True,
    help="Origin under which browsers and runners reach HQ, such as https://relay.example.com. May be given "
    "several times; the variable holds them separated by spaces.",
)
@click.option("--no-login", is_flag=True, help="Let whoever reaches HQ use it. On loopback only.")
@click.option(
    "--record-input",
    is_flag=True,
    envvar="AGENTRELAY_RECORD_INPUT",
    show_envvar=True,
    help="Keep in the output logs what is typed, too, passwords among it; else who typed, when and how much.",
)
@click.option(
    "--login-link",
    is_flag=True,
    help="Print a new link that logs a browser in once, for the HQ that uses --data-dir, and exit.",
)
def main(
    host: str,
    port: int,
    data_dir: str,
    runner_token: str | None,
    admin_token: str | None,
    public_urls: tuple[str, ...],
    no_login: bool,
    record_input: bool,
    login_link: bool,
) -> None:
    """Run AgentRelay HQ: it serves the web UI, and runners connect to it.

    A flag beats its variable.
    """
    try:
        config = HqConfig.checked(
            host=host,
            port=port,
            data_dir=Path(_given(data_dir, "--data-dir")),
            runner_token=_given(runner_token, "--runner-token"),
            admin_token=_given(admin_token, "--admin-token"),
            no_login=no_login,
            record_input=record_input,
            public_urls=public_urls,
        )
        if login_link:
            print_login_link(config)
        else:
            # What HQ makes is for its user only, whatever makes it.
            os.umask(0o077)
            from agentrelay.hq.server import run

            run(config)
    except ConfigError as error:
        click.echo(f"agentrelay-hq: {error}", err=True)
        sys.exit(2)


def print_login_link(config: HqConfig) -> None:
    """Print a link that logs a browser in once, for the HQ that uses the data directory of `config`.

    Raises:
        ConfigError: the data directory cannot be used.
    """
    from agentrelay.hq.datadir import DATABASE_FILE, make_private, running_url
    from agentrelay.hq.store import Store

    async def create_login_link() -> str:
        store = await Store.open(config.data_dir / DATABASE_FILE)
        try:
            return await store.create_login_link()
        finally:
            await store.close()

    make_private(config.data_dir)
    url = running_url(config.data_dir)
    if url is None:
        where = f"--data-dir {config.data_dir}"
        click.echo(f"agentrelay-hq: no HQ uses {where} now; start one within 10 minutes", err=True)
    click.echo(login_link(url or config.url(), asyncio.run(create_login_link())))


def _given(value: _Value, flag: str) -> _Value:
    """Refuse an empty value on the command line: most likely a shell variable that is not set."""
    if value == "":
        raise ConfigError(f"{flag} is empty: leave it out, or give it a value")
    return value


if __name__ == "__main__":
    main()
