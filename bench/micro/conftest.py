"""What micro benchmarks compare: the compiled hot path, its twin, `websockets` and picows at the same work.

picows is where it can do that work alone: it masks and sends in one, so it packs nothing.
Each result carries what is needed to make ns per frame or GB/s of it: `frames` and `bytes` of one round.
"""

from types import ModuleType

import pytest

from agentrelay import _fastpath, _fastpath_py

CHUNKS = {"64 B": 64, "1 KiB": 1024, "4 KiB": 4096, "64 KiB": 65_512}


@pytest.fixture(params=[_fastpath, _fastpath_py], ids=["compiled", "python"])
def fastpath(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@pytest.fixture(params=list(CHUNKS.values()), ids=list(CHUNKS))
def chunk_bytes(request: pytest.FixtureRequest) -> int:
    """Size of one piece of output; the largest is what one mux frame holds."""
    chunk: int = request.param
    return chunk
