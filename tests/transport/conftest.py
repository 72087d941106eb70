"""Every test here that needs an event loop runs on the loop of production and on the standard one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.transport.fakes import Heard
from tests.transport.peers import Listener, listen


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """An HTTP server that gives every WebSocket an endpoint."""
    async with listen() as running:
        yield running


@pytest.fixture
def heard() -> Heard:
    """A handler that keeps what it is told."""
    return Heard()
