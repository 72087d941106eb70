"""Runners over HTTP: which there are, and what each can start."""

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from agentrelay.hq.http.openapi import JSON, gives
from agentrelay.hq.http.parts import Hq
from agentrelay.hq.info import RunnerInfo

router = APIRouter(tags=["runners"])


class RunnerList(msgspec.Struct, frozen=True):
    """Every runner that has ever registered."""

    runners: list[RunnerInfo]


@router.get("/api/runners", summary="List runners", responses=gives(200, "All runners.", RunnerList))
async def list_runners(hq: Hq) -> Response:
    """Give every runner that has ever registered."""
    answer = RunnerList(list(hq.registry.describe_runners()))
    return Response(msgspec.json.encode(answer), media_type=JSON)


@router.get(
    "/api/runners/{runner_id}",
    summary="Get a runner",
    responses=gives(200, "The runner.", RunnerInfo, problems="404 422"),
)
async def get_runner(runner_id: str, hq: Hq) -> Response:
    """Give one runner."""
    return Response(msgspec.json.encode(hq.registry.runner(runner_id).describe()), media_type=JSON)
