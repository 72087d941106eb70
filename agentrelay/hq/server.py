"""Server: HQ put together, and the one process that runs it."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
import uvloop

import agentrelay
from agentrelay import open_files
from agentrelay.errors import ConfigError
from agentrelay.garbage import Garbage
from agentrelay.hq import rendering
from agentrelay.hq.archive import Archive
from agentrelay.hq.auth import Auth
from agentrelay.hq.config import HqConfig, login_link
from agentrelay.hq.datadir import DataDir
from agentrelay.hq.events import EventHub
from agentrelay.hq.http import make_app
from agentrelay.hq.metrics import Metrics
from agentrelay.hq.registry import Registry
from agentrelay.hq.sockets import Sockets
from agentrelay.hq.store import Store
from agentrelay.log_lines import start_logging
from agentrelay.transport.takeover import takeover

log = logging.getLogger("agentrelay.hq")

GOODBYE_S = 3
"""How long connections may take to end when HQ stops."""


@dataclass(frozen=True)
class Hq:
    """Everything an HQ is made of; `http` gets it whole."""

    config: HqConfig
    store: Store
    auth: Auth
    events: EventHub
    registry: Registry
    metrics: Metrics


def run(config: HqConfig) -> None:
    """Run an HQ until SIGINT or SIGTERM.

    Raises:
        ConfigError: the data directory or the port cannot be used; nothing was started.
    """
    start_logging("%(asctime)s %(levelname)s %(message)s")
    for library in ("uvicorn", "websockets"):
        logging.getLogger(library).setLevel(logging.WARNING)
    open_files.allow_many()
    with DataDir.acquire(config.data_dir) as data_dir:
        uvloop.run(_serve(config, data_dir))


async def _serve(config: HqConfig, data_dir: DataDir) -> None:
    store = await Store.open(data_dir.database)
    archive = Archive(data_dir.path / "sessions", record_input=config.record_input)
    archive.start()
    events = EventHub()
    registry = Registry(store=store, events=events, archive=archive)
    metrics = Metrics(registry)
    garbage = Garbage(lambda: metrics.output_bytes + metrics.input_bytes)
    auth = Auth.from_config(config, store.check_login)
    hq = Hq(config, store, auth, events, registry, metrics)
    try:
        # Every session is known again before the port opens, so /health cannot say 200 too early.
        await registry.load()
        sockets = Sockets(auth=auth, registry=registry, metrics=metrics)
        server = _Server(
            uvicorn.Config(
                make_app(hq),
                host=config.host,
                port=config.port,
                http=takeover(sockets.route),
                ws="none",
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                # Nobody is believed about where a request comes from; `login` knows its proxy.
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=GOODBYE_S,
            )
        )
        garbage.start()
        await server.serve_hq(hq, data_dir)
    finally:
        garbage.close()
        await registry.close()
        await archive.close()
        await store.close()


class _Server(uvicorn.Server):
    """uvicorn's server, which on a signal also ends the event streams that it would wait for."""

    async def serve_hq(self, hq: Hq, data_dir: DataDir) -> None:
        """Serve until a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, hq)
        sockets = _listen(hq.config)
        port = sockets[0].getsockname()[1]
        url = hq.config.url(port)
        for warning in hq.config.warnings():
            log.warning("%s", warning)
        serving = loop.create_task(self.serve(sockets))
        preparing = loop.create_task(rendering.prepare())
        data_dir.announce(url)
        log.info("HQ %s serves %s, data in %s", agentrelay.__version__, url, data_dir.path)
        if sys.stdout.isatty():
            await _print_login_link(hq, url)
        await serving
        await preparing

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the event loop, whose handlers `serve_hq` has set."""
        yield

    def _stop(self, hq: Hq) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        hq.events.close()


async def _print_login_link(hq: Hq, url: str) -> None:
    """Show the person at the terminal how to get in; never into a log file."""
    if hq.auth.login_required:
        url = login_link(url, await hq.store.create_login_link())
    print(f"\n  Open {url}\n", flush=True)


def _listen(config: HqConfig) -> list[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        listener = socket.create_server((config.host, config.port), family=family, backlog=1024)
    except OSError as error:
        where = f"{config.host}:{config.port}"
        what = f"cannot listen on {where}: {error.strerror}"
        raise ConfigError(f"{what}; choose another --host or --port") from error
    return [listener]


__all__ = ["Hq", "run"]
