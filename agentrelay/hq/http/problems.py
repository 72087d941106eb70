"""Every error that leaves HQ over HTTP, as `application/problem+json` (RFC 9457).

What went wrong in a request is raised as `HttpProblem` or as one of `agentrelay.errors`; here it becomes a
document. Programs go by `status` and `code`, people by `detail`, which is a sentence.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from agentrelay.errors import (
    AgentRelayError,
    LimitReached,
    NotInControl,
    NotRecorded,
    ProtocolError,
    RequestError,
    RunnerAway,
    SessionOver,
    StartFailed,
    StoreFailed,
    UnknownRunner,
    UnknownSession,
)

log = logging.getLogger("agentrelay.hq.http")

PROBLEM_TYPE = "application/problem+json"

# Why 422 for a start that failed: what the runner could not do is what the request asked for.
_STATUS: dict[type[AgentRelayError], int] = {
    UnknownRunner: 404,
    UnknownSession: 404,
    RunnerAway: 409,
    SessionOver: 409,
    NotInControl: 409,
    NotRecorded: 409,
    StartFailed: 422,
    ProtocolError: 422,
    LimitReached: 429,
    StoreFailed: 503,
}

_ROUTER_SAYS = {404: "There is nothing at this path.", 405: "This path does not take this method."}
_UNEXPECTED = "HQ failed while it answered; its log has the details."


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem document. `code` says it for programs, where there is more to say than the status does."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str | msgspec.UnsetType = msgspec.UNSET


class HttpProblem(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self, status: int, detail: str, *, code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.headers = headers


def problem(
    status: int, detail: str, *, code: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Make the answer for a problem. `detail` may hold anything a peer sent."""
    document = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_printable(detail),
        code=_printable(code) or msgspec.UNSET,
    )
    return Response(msgspec.json.encode(document), status, headers, PROBLEM_TYPE)


def add_problem_handlers(app: Starlette) -> None:
    """Make `app` answer exceptions with problem documents, all but those nobody expects (`unexpected`)."""
    for expected in (HttpProblem, HTTPException, AgentRelayError):
        app.add_exception_handler(expected, _on_error)


def unexpected(error: Exception) -> Response:
    """Log an exception that nobody expected, and make an answer that says nothing about it."""
    log.error("a request failed", exc_info=error)
    return problem(500, _UNEXPECTED, code="internal")


async def _on_error(_request: Request, error: Exception) -> Response:
    if isinstance(error, HttpProblem):
        return problem(error.status, str(error), code=error.code, headers=error.headers)
    if isinstance(error, HTTPException):  # the router's 404 and 405
        detail = _ROUTER_SAYS.get(error.status_code, str(error.detail))
        return problem(error.status_code, detail, headers=error.headers)
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), None)
    if status is None:
        return unexpected(error)
    code = error.code if isinstance(error, RequestError | ProtocolError) else ""
    return problem(status, str(error), code=code, headers={"retry-after": "1"} if status == 429 else None)


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
