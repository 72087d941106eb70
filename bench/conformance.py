"""RFC 6455 by Autobahn's cases against the echo server: `python -m bench.conformance`.

Left out are 9.* (speed, measured here) and 12.* and 13.* (permessage-deflate, which is never negotiated).
Needs `kosoku`, which runs Autobahn's own case files. Fails if any case does.
"""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import kosoku

from bench.processes import read_port

LEFT_OUT = ("9.*", "12.*", "13.*")
CONFORMING = ("OK", "NON-STRICT", "INFORMATIONAL")
"""Verdicts that break no MUST. Non-strict is text that is not UTF-8, refused at its end."""

TIMEOUT_S = 300.0


def run_cases(cases: Sequence[str] | None = None, *, concurrency: int = 2) -> dict[str, str]:
    """Run cases (ids or globs; None: all) against an echo server started for it.

    Returns:
        The verdict on the messages and on the close of each case, such as `OK, OK`.
    """
    command = [sys.executable, "-m", "bench.echo_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            port = read_port(server.stdout)
            return asyncio.run(_run(f"ws://127.0.0.1:{port}", cases, concurrency))
        finally:
            server.terminate()


def failures(verdicts: dict[str, str]) -> dict[str, str]:
    """Give the cases that did not pass."""
    return {
        case: verdict
        for case, verdict in verdicts.items()
        if not all(part in CONFORMING for part in verdict.split(", "))
    }


async def _run(url: str, cases: Sequence[str] | None, concurrency: int) -> dict[str, str]:
    running = kosoku.run_fuzzingclient(url, cases, LEFT_OUT, concurrency)
    try:
        results = await asyncio.wait_for(running, TIMEOUT_S)
    except kosoku.FailureError as error:
        results = error.results
    return {each.case_id: f"{each.behavior.value}, {each.behavior_close.value}" for each in results}


def main() -> None:
    """Run all cases."""
    verdicts = run_cases()
    failed = failures(verdicts)
    for case, verdict in failed.items():
        print(f"FAIL  {case}: {verdict}")
    for verdict, number in Counter(verdicts.values()).most_common():
        print(f"{number:>4} cases: {verdict}")
    print(f"{len(verdicts) - len(failed)} passed, {len(failed)} failed")
    sys.exit(bool(failed) or not verdicts)


if __name__ == "__main__":
    main()
