"""Every test here runs against both implementations, whichever one AGENTRELAY_PURE selects."""

import os
import struct
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from agentrelay import _fastpath, _fastpath_py


@pytest.fixture(scope="session", params=[_fastpath, _fastpath_py], ids=["compiled", "python"])
def fastpath(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@pytest.fixture
def make_ring_memory() -> Callable[[int], int]:
    """Give a function that makes ring memory (docs/protocol.md section 4.1) for a test to close."""

    def make(ring_bytes: int) -> int:
        fd = os.memfd_create("test-ring")
        os.ftruncate(fd, 4096 + ring_bytes)
        os.pwrite(fd, struct.pack("=5Q", 0x31474E4952524741, ring_bytes, 0, 0, 0), 0)
        os.pwrite(fd, b"\xff" * 16_384, 4096)
        return fd

    return make


@pytest.fixture
def ring_memory(make_ring_memory: Callable[[int], int]) -> Iterator[int]:
    """Ring memory of 131,072 bytes."""
    fd = make_ring_memory(131_072)
    yield fd
    os.close(fd)
