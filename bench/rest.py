"""HQ's REST interface as the benchmarks use it, and a steady load of requests.

`python -m bench.rest PORT TOKEN PER_SECOND` asks for the list of sessions, one session, HQ's health and the
list of runners in turn, at that rate on one connection, until it is ended.
"""

import http.client
import json
import sys
import time
from typing import Any, Self


class Rest:
    """One connection to HQ."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Make a request; gives the document that is the answer.

        Raises:
            RuntimeError: the answer is an error.
        """
        data = self.fetch(method, path, None if body is None else json.dumps(body))
        return json.loads(data) if data else None

    def fetch(self, method: str, path: str, text: str | None = None) -> bytes:
        """As `call`, without a look into the answer, which for 500 sessions takes longer than to make it."""
        self._connection.request(method, path, text, self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path} gave {answer.status} {data[:300]!r}")
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def ask_steadily(port: int, token: str, per_second: float) -> None:
    """Ask until the process is ended; a slow answer is not made up for."""
    rest = Rest(port, token)
    session_id = rest.call("GET", "/api/sessions")["sessions"][0]["session_id"]
    paths = ["/api/sessions", f"/api/sessions/{session_id}", "/health", "/api/runners"]
    next_s = time.monotonic()
    while True:
        for path in paths:
            rest.fetch("GET", path)
            next_s = max(next_s + 1 / per_second, time.monotonic())
            time.sleep(max(0.0, next_s - time.monotonic()))


if __name__ == "__main__":
    ask_steadily(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
