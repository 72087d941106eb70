"""Instructions and system calls of the hot path, counted by tools that see them all; skipped without these.

Each count is the difference of two runs, so what Python does to start is not in it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentrelay import fastpath
from bench.counted import FRAMES, MIB, PIECE_BYTES

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}

pytestmark = pytest.mark.skipif(not fastpath.COMPILED, reason="the twin is counted by nobody")


def run(*command: str) -> str:
    """Run a counting tool; gives what it said, or skips the test where it may not or cannot work."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()[-200:]}")
    return done.stderr


def instructions(what: str, times: int) -> int:
    output = run(
        "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
        sys.executable, "-m", "bench.counted", what, str(times),
    )  # fmt: skip
    found = re.search(r"Collected : (\d+)", output)
    assert found, output
    return int(found[1])


def system_calls(what: str, times: int) -> dict[str, int]:
    output = run(
        "strace", "-f", "-c", "-U", "name,calls",
        sys.executable, "-m", "bench.counted", what, str(times),
    )  # fmt: skip
    return {name: int(calls) for name, calls in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


def test_a_small_frame_costs_a_few_hundred_instructions() -> None:
    used = instructions("receive", 3) - instructions("receive", 1)

    # 240 when this was written, 64 bytes of unmasking included. One call of Python for a frame is thousands.
    assert 50 < used / (2 * FRAMES) < 800


def test_output_is_read_and_sent_with_one_system_call_each() -> None:
    few, many = system_calls("relay", 1), system_calls("relay", 3)
    pieces = 2 * MIB // PIECE_BYTES
    # What Python itself does now and then, for memory, rounds to nothing.
    each = {name: round((calls - few.get(name, 0)) / pieces) for name, calls in many.items()}
    del each["total"]

    # A read and a sendmsg; a write and a recvfrom are of who makes the output and who takes it.
    assert {name: calls for name, calls in each.items() if calls} == {
        "read": 1,
        "sendmsg": 1,
        "write": 1,
        "recvfrom": 1,
    }
