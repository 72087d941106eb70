"""One system for the tests that leave it as it was, and one each for those that break it."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.system.running import System

LIMIT_S = 60.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "limit_s(seconds): how long a test of the system may take at most")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bound every test in this directory: what is waited for may never come."""
    for item in items:
        if isinstance(item, pytest.Function) and item.path.parent == Path(__file__).parent:
            mark = item.get_closest_marker("limit_s")
            item.obj = _bounded(item.obj, mark.args[0] if mark is not None else LIMIT_S)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what HQ and the runners printed where a test failed."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    running = arguments.get("own_system") or arguments.get("system")
    if report.failed and isinstance(running, System):
        report.sections.append(("The system's logs", running.logs()))
    return report


def _bounded(test: Callable[..., Awaitable[None]], limit_s: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(*args: object, **kwargs: object) -> None:
        async with asyncio.timeout(limit_s):
            await test(*args, **kwargs)

    return bounded


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """HQ with two runners, r1 and r2. Leave it as you found it."""
    running = System(tmp_path_factory.mktemp("system") / "all")
    try:
        running.start_hq()
        running.start_runner("r1")
        running.start_runner("r2")
        yield running
    finally:
        running.stop()


@pytest.fixture
def own_system(tmp_path: Path) -> Iterator[System]:
    """A system for one test, with nothing started."""
    running = System(tmp_path / "own")
    try:
        yield running
    finally:
        running.stop()
