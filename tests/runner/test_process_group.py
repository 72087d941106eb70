"""Process groups, with real processes."""

import os
import signal
import subprocess

import pytest

from agentrelay.runner.process_group import group_exists, signal_groups


def test_a_group_is_signalled_as_long_as_it_exists() -> None:
    complaints: list[str] = []
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    gone = subprocess.Popen(["true"], start_new_session=True)
    gone.wait()
    assert group_exists(process.pid)
    assert not group_exists(gone.pid)
    signal_groups([gone.pid, process.pid], signal.SIGTERM, complaints.append)
    assert process.wait() == -signal.SIGTERM
    assert not group_exists(process.pid)
    assert complaints == []


def test_a_group_that_may_not_be_signalled_is_complained_about(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(group: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refuse)
    complaints: list[str] = []
    signal_groups([4711], signal.SIGTERM, complaints.append)
    assert group_exists(4711)
    assert complaints == ["signal 15 to process group 4711: Operation not permitted"]
