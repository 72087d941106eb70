"""HQ about itself: is it up, how much of everything, and what does its API look like."""

from typing import Literal

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

import agentrelay
from agentrelay.hq.http import openapi
from agentrelay.hq.http.openapi import JSON, gives, takes
from agentrelay.hq.http.parts import Hq
from agentrelay.hq.metrics import CONTENT_TYPE

router = APIRouter(tags=["system"])


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """HQ is up and knows its sessions. `runners`: connected ones; `sessions`: all that are known."""

    status: Literal["ok"] = "ok"
    version: str
    runners: int
    sessions: int


@router.get(
    "/health",
    summary="Is HQ up",
    responses=gives(200, "It is.", Health),
    openapi_extra=takes(open_to_all=True),
)
@router.head("/health", include_in_schema=False)
async def health(hq: Hq) -> Response:
    """Tell that HQ is up; it does not answer before it knows every session again."""
    answer = Health(
        version=agentrelay.__version__,
        runners=sum(runner.online for runner in hq.registry.describe_runners()),
        sessions=len(hq.registry.sessions),
    )
    return Response(msgspec.json.encode(answer), media_type=JSON)


@router.get("/metrics", summary="Metrics", responses=gives(200, "In Prometheus's text format.", "text/plain"))
async def metrics(hq: Hq) -> Response:
    """Give all numbers for Prometheus."""
    return Response(hq.metrics.render(), headers={"content-type": CONTENT_TYPE})


@router.get("/openapi.json", include_in_schema=False)
async def openapi_document(request: Request) -> Response:
    """Give the OpenAPI document, made when it is first asked for."""
    state = request.app.state
    if state.openapi is None:
        state.openapi = openapi.describe(request.app)
    return Response(state.openapi, media_type=JSON)
