"""Runners over HTTP: which there are, and what each can start."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from agentrelay.hq.http.openapi import JSON, gives
from agentrelay.hq.http.parts import HqParts
from agentrelay.hq.http.routes import Routes
from agentrelay.hq.info import RunnerInfo

routes = Routes("runners")


class RunnerList(msgspec.Struct, frozen=True):
    """Every runner that has ever registered."""

    runners: list[RunnerInfo]


@routes.add("GET", "/api/runners", summary="List runners", answers=gives(200, "All runners.", RunnerList))
async def list_runners(request: Request, hq: HqParts) -> Response:
    """Give every runner that has ever registered."""
    del request
    answer = RunnerList(list(hq.registry.describe_runners()))
    return Response(msgspec.json.encode(answer), media_type=JSON)


@routes.add(
    "GET",
    "/api/runners/{runner_id}",
    summary="Get a runner",
    answers=gives(200, "The runner.", RunnerInfo, problems="404 422"),
)
async def get_runner(request: Request, hq: HqParts) -> Response:
    """Give one runner."""
    runner = hq.registry.runner(request.path_params["runner_id"])
    return Response(msgspec.json.encode(runner.describe()), media_type=JSON)
