"""The event stream over HTTP: `GET /api/events` for an `EventSource` in the browser."""

from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from agentrelay.hq.auth import Allowed
from agentrelay.hq.http.openapi import gives
from agentrelay.hq.http.parts import HqParts
from agentrelay.hq.http.routes import Routes
from agentrelay.hq.http.sessions import list_sessions

_EVENT_STREAM = "text/event-stream"

routes = Routes("events")


@routes.add(
    "GET",
    "/api/events",
    summary="Follow what happens",
    answers=gives(200, "Server-sent events.", _EVENT_STREAM),
)
async def follow_events(request: Request, hq: HqParts) -> Response:
    """Follow runners and sessions as server-sent events.

    The first event is `snapshot` with all runners and sessions; then come `runner`, `session`,
    `runner_removed` and `session_removed`. With `Last-Event-ID` the stream goes on behind that event, or
    begins with a new snapshot where that is no longer possible.
    """
    return StreamingResponse(
        _stream(request, hq),
        media_type=_EVENT_STREAM,
        headers={"x-accel-buffering": "no"},  # nginx would hold events back
    )


async def _stream(request: Request, hq: HqParts) -> AsyncIterator[bytes]:
    async def snapshot() -> bytes:
        runners = msgspec.json.encode(hq.registry.describe_runners())
        return b'{"runners":%s,"sessions":%s}' % (runners, await list_sessions(hq))

    async for chunk in hq.events.subscribe(snapshot, request.headers.get("last-event-id")):
        # A login that has ended since the stream began ends the stream, at the next keep-alive at the latest.
        if not isinstance(hq.auth.check_http("GET", request.url.path, request.scope["headers"]), Allowed):
            return
        yield chunk
