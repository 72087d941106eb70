"""Sockets: which WebSocket a request gets, and a viewer's connection up to its first message.

Everything that can be refused before the upgrade is refused here, as plain HTTP: credentials, `Host` and
`Origin` by `auth`, then what the path names.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from weakref import WeakKeyDictionary

from agentrelay.errors import ProtocolError, RequestError, UnknownRunner, UnknownSession
from agentrelay.hq.auth import Allowed, Auth, Principal, Refused
from agentrelay.hq.metrics import Metrics
from agentrelay.hq.registry import Registry
from agentrelay.hq.runner_link import RunnerLink
from agentrelay.hq.session import Session
from agentrelay.hq.viewer import Viewer
from agentrelay.protocol.messages import Attach, Error, StartSession, decode_from_viewer, encode
from agentrelay.transport.endpoint import INTERNAL_ERROR, LOGGED_OUT, POLICY_VIOLATION, Endpoint
from agentrelay.transport.takeover import Refusal, UpgradeRequest

log = logging.getLogger("agentrelay.hq")

FIRST_MESSAGE_S = 10.0

CHECK_LOGINS_S = 1.0
"""How soon a connection ends whose login was ended: logged out, expired, or pushed out by newer ones."""


class Sockets:
    """Routes upgrades; give `route` to `takeover`."""

    def __init__(self, *, auth: Auth, registry: Registry, metrics: Metrics) -> None:
        self._auth = auth
        self._registry = registry
        self._metrics = metrics
        self._logged_in: WeakKeyDictionary[Endpoint, UpgradeRequest] = WeakKeyDictionary()
        self._checking = False

    def route(self, request: UpgradeRequest) -> Refusal | Callable[[Endpoint], None]:
        """Refuse a request for a WebSocket, or give what makes its endpoint work."""
        decision = self._check(request)
        if isinstance(decision, Refused):
            return Refusal(decision.status, decision.title, decision.detail)
        accept = self._find(request)
        if isinstance(accept, Refusal) or decision.principal is not Principal.LOGIN:
            return accept

        def accept_login(endpoint: Endpoint) -> None:
            self._logged_in[endpoint] = request
            self._check_logins_later()
            accept(endpoint)

        return accept_login

    def _check(self, request: UpgradeRequest) -> Allowed | Refused:
        scheme = "https" if request.secure else "http"
        return self._auth.check_upgrade(request.path, request.headers, scheme=scheme)

    def _check_logins_later(self) -> None:
        if not self._checking and self._logged_in:
            self._checking = True
            asyncio.get_running_loop().call_later(CHECK_LOGINS_S, self._check_logins)

    def _check_logins(self) -> None:
        """End the connections whose login has ended since they were opened."""
        self._checking = False
        for endpoint, request in list(self._logged_in.items()):
            if not endpoint.open:
                del self._logged_in[endpoint]
            elif isinstance(self._check(request), Refused):
                del self._logged_in[endpoint]
                endpoint.close(LOGGED_OUT, "the login has ended")
        self._check_logins_later()

    def _find(self, request: UpgradeRequest) -> Refusal | Callable[[Endpoint], None]:
        match request.path.split("/"):
            case ["", "ws", "runner"]:
                return self._accept_link
            case ["", "ws", "terminal", runner_id]:
                try:
                    self._registry.runner(runner_id)
                except UnknownRunner as error:
                    return Refusal(404, "Unknown runner", str(error))
                return partial(self._accept_starter, runner_id)
            case ["", "ws", "session", session_id]:
                try:
                    session = self._registry.session(session_id)
                except UnknownSession as error:
                    return Refusal(404, "Unknown session", str(error))
                return partial(self._accept_attacher, session)
        return Refusal(404, "Not found", "there is no WebSocket at this path")

    def _accept_link(self, endpoint: Endpoint) -> None:
        RunnerLink(endpoint, self._registry, self._metrics)

    def _accept_starter(self, runner_id: str, endpoint: Endpoint) -> None:
        async def first(text: bytes) -> Viewer:
            message = decode_from_viewer(text)
            if not isinstance(message, StartSession):
                raise ProtocolError("bad_message", "the first message on this socket has to be start_session")
            session = await self._registry.start_session(runner_id, message, for_viewer=True)
            viewer = Viewer(endpoint, session, self._metrics)
            if endpoint.open:
                viewer.begin(ref=message.session_id, name=message.viewer)
            else:
                session.give_up_starter()
            return viewer

        ViewerSocket(endpoint, first)

    def _accept_attacher(self, session: Session, endpoint: Endpoint) -> None:
        async def first(text: bytes) -> Viewer:
            message = decode_from_viewer(text)
            if not isinstance(message, Attach):
                raise ProtocolError("bad_message", "the first message on this socket has to be attach")
            viewer = Viewer(endpoint, session, self._metrics)
            await viewer.attach(message)
            return viewer

        ViewerSocket(endpoint, first)


class ViewerSocket:
    """A viewer's connection: waits for the first message, then hands everything to its `Viewer`.

    Args:
        endpoint: the connection.
        first: told the first message; gives the attached viewer, or raises `ProtocolError` or `RequestError`.
    """

    def __init__(self, endpoint: Endpoint, first: Callable[[bytes], Awaitable[Viewer]]) -> None:
        self._endpoint = endpoint
        self._first = first
        self._viewer: Viewer | None = None
        self._opening: asyncio.Task[None] | None = None
        self._early: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()
        self._patience = self._loop.call_later(FIRST_MESSAGE_S, self._no_message)
        endpoint.handler = self

    def on_text(self, text: bytes) -> None:
        """Take a control message."""
        if self._viewer is None:
            if self._opening is None:
                self._patience.cancel()
                # What follows the first message waits in the kernel until the viewer is attached.
                self._endpoint.pause_reading()
                self._opening = self._loop.create_task(self._open(text))
            else:
                self._early.append(partial(self.on_text, text))
            return
        try:
            message = decode_from_viewer(text)
            if message is not None:
                self._viewer.on_message(message)
        except ProtocolError as error:
            self._say_error(error.code, str(error))

    def on_text_too_big(self, n_bytes: int) -> None:
        """Say why the connection is closed."""
        self._say_error("too_large", f"a control message has at most 65536 bytes, not {n_bytes}")

    def on_binary(self, data: memoryview) -> None:
        """Take keyboard input."""
        if self._viewer is not None:
            self._viewer.on_input(data)
        elif self._opening is not None:
            self._early.append(partial(self.on_binary, memoryview(bytes(data))))
        else:
            self._fail("bad_message", "the first message has to be text")

    def on_writable(self) -> None:
        """Send more output."""
        if self._viewer is not None:
            self._viewer.on_writable()

    def on_closed(self, code: int, reason: str) -> None:
        """Detach."""
        del code, reason
        self._patience.cancel()
        if self._viewer is not None:
            self._viewer.detach()

    async def _open(self, text: bytes) -> None:
        try:
            viewer = await self._first(text)
        except (ProtocolError, RequestError) as error:
            self._fail(error.code, str(error))
        except Exception:
            log.exception("a viewer could not be attached")
            self._say_error("internal", "HQ failed; its log has the details")
            self._endpoint.close(INTERNAL_ERROR, "internal error")
        else:
            self._viewer = viewer
            if not self._endpoint.open:
                viewer.detach()
            early, self._early = self._early, []
            for message in early:
                message()
        finally:
            self._endpoint.resume_reading()

    def _no_message(self) -> None:
        self._fail("timeout", f"no first message within {FIRST_MESSAGE_S:.0f} s")

    def _fail(self, code: str, message: str) -> None:
        self._say_error(code, message)
        self._endpoint.close(POLICY_VIOLATION, message)

    def _say_error(self, code: str, message: str) -> None:
        self._endpoint.send_text(encode(Error(code=code, message=message)))
