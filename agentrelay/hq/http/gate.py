"""The gate: what every HTTP request passes before and behind the app.

A plain ASGI middleware. In front: who may do this (`auth`), before the body is read and before the path is
looked up; how large the body may be. Behind: security headers on every answer, and a problem document for
whatever went wrong unexpectedly.
"""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentrelay.hq.auth import Auth, Principal, Refused
from agentrelay.hq.http.body import too_large
from agentrelay.hq.http.problems import HttpProblem, problem, unexpected
from agentrelay.hq.http.ui import Ui

MAX_BODY_BYTES = 1 << 20
MAX_OPEN_BODY_BYTES = 4096
"""Where nobody has logged in yet: a login token and nothing else."""
OPEN_BODY_S = 10.0
"""How long that may take to arrive, as for headers."""

MAX_DISCARDED_BYTES = 16 << 20
"""Up to here the server throws a refused body away as it arrives; beyond, or with an open end, it hangs up.
Hanging up on a client that is still sending can cost it the answer."""

PRINCIPAL = "agentrelay.principal"
"""Key of the scope under which the app finds the `Principal`."""

# xterm.js places its rows with <style> elements of its own, hence style-src. 'self' covers the WebSockets.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; manifest-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "content-security-policy": _CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Gate:
    """Wraps an ASGI app."""

    def __init__(self, app: ASGIApp, *, auth: Auth, ui: Ui) -> None:
        self._app = app
        self._auth = auth
        self._ui = ui

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (https://asgi.readthedocs.io/en/latest/specs/www.html)."""
        if scope["type"] != "http":
            # WebSockets are taken over before ASGI; one that comes here all the same is not accepted.
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_headers(message)
            await send(message)

        answer = self._refuse(scope)
        if answer is None:
            try:
                await self._app(scope, _limited(receive, scope), send_on)
            except ClientDisconnect:
                return  # in the middle of its body: nobody is left to be answered
            except Exception as error:
                answer = unexpected(error)
        if answer is not None and not started:
            await answer(scope, receive, send_on)

    def _refuse(self, scope: Scope) -> Response | None:
        path: str = scope["path"]
        decision = self._auth.check_http(
            scope["method"],
            path,
            scope["headers"],
            scheme=scope.get("scheme", "http"),
            is_ui_file=self._ui.has(path),
        )
        length = _declared_bytes(scope)
        headers = {"connection": "close"} if length is None or length > MAX_DISCARDED_BYTES else {}
        if isinstance(decision, Refused):
            if decision.status == 401:
                headers["www-authenticate"] = "Bearer"
            return problem(decision.status, decision.detail, headers=headers)
        scope[PRINCIPAL] = decision.principal
        limit = _body_limit(scope)
        if length is not None and length > limit:
            return problem(413, str(too_large(limit)), code="too_large", headers=headers)
        return None


def _body_limit(scope: Scope) -> int:
    return MAX_OPEN_BODY_BYTES if scope[PRINCIPAL] is Principal.NOBODY else MAX_BODY_BYTES


def _declared_bytes(scope: Scope) -> int | None:
    """Give the length of the body as declared: 0 without one, None where it is open or nonsense."""
    length = 0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                return None
            length = int(value)
    return length


def _limited(receive: Receive, scope: Scope) -> Receive:
    """Give a `receive` that ends a request whose body is larger or, from nobody, slower than it may be."""
    limit = _body_limit(scope)
    received_bytes = 0
    deadline_s = None
    if scope[PRINCIPAL] is Principal.NOBODY:
        deadline_s = asyncio.get_running_loop().time() + OPEN_BODY_S

    async def receive_limited() -> Message:
        nonlocal received_bytes
        try:
            async with asyncio.timeout_at(deadline_s):
                message = await receive()
        except TimeoutError:
            detail = f"The body has to arrive within {OPEN_BODY_S:.0f} s."
            raise HttpProblem(408, detail, headers={"connection": "close"}) from None
        if message["type"] == "http.request":
            received_bytes += len(message.get("body", b""))
            if received_bytes > limit:
                raise too_large(limit)
        return message

    return receive_limited


def _add_headers(message: Message) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in _SECURITY_HEADERS.items():
        headers[name] = value
    headers.setdefault("cache-control", "no-store")
