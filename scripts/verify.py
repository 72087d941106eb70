"""Try a running system from the outside, one line per check: `make verify`.

HQ_URL says where HQ is (default http://127.0.0.1:$PORT). It lets us in by AGENTRELAY_ADMIN_TOKEN, or by a
login link that `agentrelay-hq --login-link` makes on HQ's own machine; `--no-login` is for an HQ that wants
neither. RUNNER_ID chooses a runner; else it is the first that is online.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from scripts import local_system

TIMEOUT_S = 20.0
WORD = "agentrelay-verify"
EXIT_CODE = 7
SCRIPT = f'read -r word; echo "got $word"; exit {EXIT_CODE}'


class CheckFailed(Exception):
    """The system did not do what the check asks; the message says what it did."""


@dataclass
class System:
    """A running HQ, and what the checks so far have learned about it.

    Attributes:
        url: HQ's origin.
        login: whether HQ is expected to want a login.
        headers: what goes with every request: the credential.
        runner_id: the runner to use, once one is known to be online.
        session_id: the session that was started.
    """

    url: str
    login: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    runner_id: str = ""
    session_id: str = ""

    def request(self, method: str, path: str, body: object = None) -> urllib.request.Request:
        """Make a request with the credential."""
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers | ({} if body is None else {"Content-Type": "application/json"})
        return urllib.request.Request(self.url + path, data, headers, method=method)

    def get(self, path: str) -> Any:
        """Get a JSON document."""
        return json.loads(send(self.request("GET", path))[0])


def send(request: urllib.request.Request) -> tuple[bytes, str]:
    """Send a request; gives the body of the answer and the cookie it sets, as `name=value` or empty.

    Raises:
        CheckFailed: HQ cannot be reached, or answers with an error status.
    """
    what = f"{request.get_method()} {request.selector}"
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.read(), (answer.headers.get("Set-Cookie") or "").partition(";")[0]
    except urllib.error.HTTPError as error:
        text = error.read(500).decode(errors="replace")
        raise CheckFailed(f"{what} gave {error.code} {text}") from None
    except OSError as error:
        raise CheckFailed(f"{what}: {getattr(error, 'reason', error)}") from None


def origin_of(text: str) -> str:
    """Give HQ's origin, also for a runner's HQ_URL such as ws://localhost:8080/ws/runner.

    Raises:
        SystemExit: it is no URL of an HQ.
    """
    parts = urlsplit(text)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https") or not parts.netloc:
        raise SystemExit(f"HQ_URL={text} is not the URL of an HQ, such as http://127.0.0.1:8080")
    return f"{scheme}://{parts.netloc}"


def check_health(system: System) -> str:
    """HQ answers and says that it is well."""
    health = system.get("/health")
    if health["status"] != "ok":
        raise CheckFailed(f"its status is {health['status']}")
    return f"HQ {health['version']} at {system.url}"


def check_login(system: System) -> str:
    """HQ lets us in, and nobody without a login unless it was started so."""
    required = urllib.request.Request(system.url + "/api/me")
    if json.loads(send(required)[0])["login_required"] != system.login:
        raise CheckFailed("HQ was started with --no-login" if system.login else "HQ wants a login")
    if not system.login:
        return "none needed"
    if token := os.environ.get("AGENTRELAY_ADMIN_TOKEN"):
        system.headers["Authorization"] = f"Bearer {token}"
    else:
        # As a browser does it; with a cookie, HQ wants to know which page a request comes from.
        system.headers |= {"Cookie": login_cookie(system), "Origin": system.url}
    login = system.get("/api/me")["login"]
    if login == "none":
        raise CheckFailed(
            "HQ does not take AGENTRELAY_ADMIN_TOKEN" if token else "HQ does not take its cookie"
        )
    return f"by {login}"


def login_cookie(system: System) -> str:
    """Have a login link made on this machine and use it; gives the cookie.

    Raises:
        CheckFailed: most likely, HQ's data directory is another one.
    """
    port = urlsplit(system.url).port or local_system.DEFAULT_PORT
    try:
        token = unquote(local_system.make_login_link(port).partition("#login=")[2])
        return send(system.request("POST", "/api/login", {"token": token}))[1]
    except (local_system.NoLoginLink, CheckFailed) as error:
        raise CheckFailed(
            f"{error}. Set AGENTRELAY_ADMIN_TOKEN, or AGENTRELAY_DATA_DIR if this HQ has another data "
            f"directory than {local_system.data_dir(port)}"
        ) from None


def check_runner(system: System) -> str:
    """A runner is online."""
    online = [runner["runner_id"] for runner in system.get("/api/runners")["runners"] if runner["online"]]
    wanted = os.environ.get("RUNNER_ID") or (online[0] if online else None)
    if wanted is None:
        raise CheckFailed("none is; start one with: make run-runner")
    if wanted not in online:
        raise CheckFailed(f"RUNNER_ID={wanted} is not; these are: {', '.join(online) or 'none'}")
    system.runner_id = wanted
    return wanted


def check_session(system: System) -> str:
    """A program starts on a PTY, hears what is typed, and how it exits comes back."""
    url = f"ws{system.url.removeprefix('http')}/ws/terminal/{quote(system.runner_id)}"
    try:
        with connect(url, additional_headers=system.headers, compression=None, proxy=None) as viewer:
            return use_session(system, viewer)
    except TimeoutError:
        raise CheckFailed(f"{url}: nothing came for {TIMEOUT_S:.0f} s") from None
    except (WebSocketException, OSError) as error:
        raise CheckFailed(f"{url}: {error}") from None


def use_session(system: System, viewer: ClientConnection) -> str:
    """Start the program, type a word once it runs, and read until it has ended."""
    start = {"command": ["sh", "-c", SCRIPT], "name": "make verify", "rows": 24, "cols": 80}
    viewer.send(json.dumps({"type": "start_session", "payload": start}))
    output = b""
    while True:
        message = viewer.recv(TIMEOUT_S)
        if isinstance(message, bytes):
            output += message
            continue
        control = json.loads(message)
        payload = control["payload"]
        if control["type"] == "session_started":
            system.session_id = payload["session_id"]
            viewer.send(f"{WORD}\n".encode())
        elif control["type"] == "error":
            raise CheckFailed(f"{payload['code']}: {payload['message']}")
        elif control["type"] == "session_ended":
            break
    if f"got {WORD}".encode() not in output:
        raise CheckFailed(f"what was typed did not come back; the output is {output!r}")
    if payload["exit_code"] != EXIT_CODE:
        raise CheckFailed(f"the exit code is {payload['exit_code']} and not {EXIT_CODE}")
    return f"echo and exit code came back from {system.session_id}"


def check_output(system: System) -> str:
    """HQ has kept what the session wrote."""
    output, _ = send(system.request("GET", f"/api/sessions/{system.session_id}/output?from=0"))
    if f"got {WORD}".encode() not in output:
        raise CheckFailed(f"it is {output!r}")
    return f"{len(output)} bytes"


def check_removal(system: System) -> str:
    """The session can be removed."""
    send(system.request("DELETE", f"/api/sessions/{system.session_id}"))
    sessions = system.get("/api/sessions")["sessions"]
    if any(session["session_id"] == system.session_id for session in sessions):
        raise CheckFailed("it is still listed")
    return "it is gone"


CHECKS: dict[str, Callable[[System], str]] = {
    "health": check_health,
    "login": check_login,
    "runner online": check_runner,
    "session": check_session,
    "output kept": check_output,
    "session removed": check_removal,
}


def verify(system: System) -> bool:
    """Do the checks up to the first that fails, as each needs those before; tells whether all passed."""
    passed = 0
    for name, check in CHECKS.items():
        try:
            print(f"ok    {name}: {check(system)}", flush=True)
        except CheckFailed as error:
            print(f"FAIL  {name}: {error}", flush=True)
            break
        passed += 1
    print(f"{passed} passed, {min(1, len(CHECKS) - passed)} failed")
    return passed == len(CHECKS)


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--no-login"]):
        raise SystemExit('usage: make verify, or make verify VERIFY="--no-login"')
    port = os.environ.get("PORT") or local_system.DEFAULT_PORT
    hq_url = origin_of(os.environ.get("HQ_URL") or f"http://127.0.0.1:{port}")
    sys.exit(not verify(System(hq_url, login="--no-login" not in sys.argv)))
