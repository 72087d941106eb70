"""Identifiers: unguessable where they have to be, and well formed where they come from outside."""

import re

import pytest

from agentrelay.protocol.ids import is_runner_id, new_epoch, new_session_id


def test_session_ids_are_128_random_bits() -> None:
    ids = {new_session_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{32}", session_id) for session_id in ids)


def test_epochs_differ() -> None:
    assert len({new_epoch() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("text", ["a", "mac-1.local", "A_b", "0", "x" * 64])
def test_a_runner_may_be_called(text: str) -> None:
    assert is_runner_id(text)


@pytest.mark.parametrize("text", ["", "x" * 65, "a b", "a/b", "é", "a\n", "\0", "a:b"])
def test_a_runner_may_not_be_called(text: str) -> None:
    assert not is_runner_id(text)
