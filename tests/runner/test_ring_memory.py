"""Ring memory as the keeper makes it, against docs/protocol.md 4.1 and against who reads it."""

import os

import pytest

from agentrelay.fastpath import GUARD_BYTES, ByteRing
from agentrelay.runner.paths import RunnerDirectory
from agentrelay.runner.ring_memory import create_ring_memory


def check(fd: int) -> None:
    assert os.fstat(fd).st_size == 4096 + 131_072
    assert not os.get_inheritable(fd)
    header = os.pread(fd, 40, 0)
    assert header[:8] == b"AGRRING1"
    assert int.from_bytes(header[8:16], "little") == 131_072
    assert header[16:] == bytes(24)
    assert os.pread(fd, 131_072, 4096) == b"\xff" * GUARD_BYTES + bytes(131_072 - GUARD_BYTES)
    ring = ByteRing.shared(fd)
    assert ring.recover() == 0
    assert (ring.head, ring.keep, ring.capacity_bytes) == (0, 0, 131_072)
    ring.close()
    os.close(fd)


def test_it_is_what_the_runner_expects(directory: RunnerDirectory) -> None:
    check(create_ring_memory(131_072, directory_fd=directory.fd))


def test_it_is_a_nameless_file_where_there_is_no_memfd(
    directory: RunnerDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    check(create_ring_memory(131_072, directory_fd=directory.fd))
    assert os.listdir(directory.path) == []


@pytest.mark.parametrize("ring_bytes", [0, -1, 65_536, 131_073, 1 << 31])
def test_a_size_that_is_none_is_refused(directory: RunnerDirectory, ring_bytes: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        create_ring_memory(ring_bytes, directory_fd=directory.fd)
