"""What the kernel says of a peer that nobody reads."""

import math
import socket
import sys
import time
from collections.abc import Callable

import pytest

from agentrelay.transport.reachability import silence_s

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


def until(condition: Callable[[], bool]) -> None:
    """Wait for the kernel, which sends itself packets."""
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


@linux
def test_silence_grows_until_something_is_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    until(lambda: silence_s(ours.fileno()) >= 0.05)
    ours.send(b"?")

    until(lambda: silence_s(ours.fileno()) < 0.05)
    theirs.close()
    ours.close()


@linux
@pytest.mark.parametrize("unread", [b"", b"unread"], ids=["closed", "reset"])
def test_a_peer_that_has_left_is_silent_for_ever(
    pair: tuple[socket.socket, socket.socket], unread: bytes
) -> None:
    ours, theirs = pair
    ours.send(unread)
    theirs.close()

    until(lambda: silence_s(ours.fileno()) == math.inf)
    ours.close()


def test_what_the_kernel_does_not_know_counts_as_life() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert silence_s(ours.fileno()) == 0.0
