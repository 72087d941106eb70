"""HQ runs on uvloop, and so do its tests; most of them have a data plane with a runner."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.hq.plane import Disk, FakeRunner, Plane, Program, run_plane


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with room beside it."""
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
async def plane(data: Path) -> AsyncIterator[Plane]:
    async with run_plane(data) as running:
        yield running


@pytest.fixture
async def runner(plane: Plane) -> FakeRunner:
    runner = FakeRunner(plane)
    await runner.connect()
    return runner


@pytest.fixture
async def program(runner: FakeRunner) -> Program:
    return await runner.start_program()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)
