"""A part of Autobahn's cases; all of them are `make conformance`."""

import fnmatch

import pytest

pytest.importorskip("kosoku", reason="it runs Autobahn's cases")

from bench.conformance import failures, run_cases

GROUPS = {
    "messages of every size that a length can have": (["1.*"], 16),
    "pings, and bits that are reserved": (["2.*", "3.*"], 18),
    "opcodes that are reserved": (["4.*"], 10),
    "fragments, with control frames between them": (["5.*"], 20),
    "text that is not UTF-8": (["6.3.*", "6.4.*"], 6),
    "closing, in time and out of turn": (["7.*"], 37),
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    return run_cases([pattern for patterns, _ in GROUPS.values() for pattern in patterns], concurrency=8)


@pytest.mark.parametrize("group", GROUPS)
def test_no_case_fails(verdicts: dict[str, str], group: str) -> None:
    patterns, least = GROUPS[group]

    found = {
        case: verdict for case, verdict in verdicts.items() if any(fnmatch.fnmatch(case, p) for p in patterns)
    }

    assert failures(found) == {}
    assert len(found) >= least
