"""Open files: as many as may be for HQ and runners, and the usual number for programs."""

import subprocess
import sys

import pytest

SHOW = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"


def limits(do: str, *, usual: int, most: int) -> list[int]:
    """Give the limits of a process that is started with these and does something."""
    script = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({usual}, {most})); {do}; {SHOW}"
    answer = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return [int(word) for word in answer.stdout.split()]


@pytest.mark.parametrize(("usual", "most", "then"), [(200, 1000, 1000), (1000, 1000, 1000)])
def test_a_process_takes_what_it_may_have(usual: int, most: int, then: int) -> None:
    do = "from agentrelay import open_files; open_files.allow_many()"
    assert limits(do, usual=usual, most=most) == [then, most]


def test_it_knows_what_was_usual_before() -> None:
    do = "from agentrelay import open_files; open_files.allow_many(); open_files.restore(open_files.USUAL)"
    assert limits(do, usual=300, most=1000) == [300, 1000]


def test_what_cannot_be_restored_is_left_as_it_is() -> None:
    do = "from agentrelay import open_files; open_files.restore(2000)"
    assert limits(do, usual=300, most=1000) == [300, 1000]
