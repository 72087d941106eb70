"""HQ about itself: is it up, how much of everything, and what does its API look like."""

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

import agentrelay
from agentrelay.hq.http import openapi
from agentrelay.hq.http.openapi import JSON, gives, takes
from agentrelay.hq.http.parts import HqParts
from agentrelay.hq.http.routes import Routes
from agentrelay.hq.metrics import CONTENT_TYPE

routes = Routes("system")


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """HQ is up and knows its sessions. `runners`: connected ones; `sessions`: all that are known."""

    status: Literal["ok"] = "ok"
    version: str
    runners: int
    sessions: int


@routes.add(
    "GET HEAD",
    "/health",
    summary="Is HQ up",
    answers=gives(200, "It is.", Health),
    takes=takes(open_to_all=True),
)
async def health(request: Request, hq: HqParts) -> Response:
    """Tell that HQ is up; it does not answer before it knows every session again."""
    del request
    answer = Health(
        version=agentrelay.__version__,
        runners=hq.registry.count_runners()[True],
        sessions=len(hq.registry.sessions),
    )
    return Response(msgspec.json.encode(answer), media_type=JSON)


@routes.add(
    "GET",
    "/metrics",
    summary="Metrics",
    answers=gives(200, "In Prometheus's text format.", "text/plain"),
)
async def metrics(request: Request, hq: HqParts) -> Response:
    """Give all numbers for Prometheus."""
    del request
    return Response(hq.metrics.render(), headers={"content-type": CONTENT_TYPE})


@routes.add("GET", "/openapi.json")
async def openapi_document(request: Request, hq: HqParts) -> Response:
    """Give the OpenAPI document, made when it is first asked for."""
    del hq
    state = request.app.state
    if state.openapi is None:
        state.openapi = openapi.describe(state.operations)
    return Response(state.openapi, media_type=JSON)
