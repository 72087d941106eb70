"""Routes: which paths the REST interface answers, each described where it is answered.

A module makes a `Routes` and decorates its handlers with it; `app` gives them to Starlette, and `openapi`
makes the document of the very same entries.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentrelay.hq.http.parts import HqParts

Handler = Callable[[Request, HqParts], Awaitable[Response]]
Document = Mapping[str, Any]
"""A part of an OpenAPI document."""


class Operation(NamedTuple):
    """One method of one path.

    Attributes:
        method: in upper case.
        path: with the names of its parameters in braces.
        handler: answers it; its docstring is the description.
        tag: what it belongs to.
        summary: in three words; empty: it is not described.
        answers: what it may answer, as `openapi.gives`.
        takes: what it takes, as `openapi.takes`.
        query: what its query may hold.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    answers: Document
    takes: Document
    query: type[msgspec.Struct] | None


class Routes:
    """The operations of one part of the interface.

    Args:
        tag: its name in the document.
    """

    def __init__(self, tag: str) -> None:
        self.operations: list[Operation] = []
        self._tag = tag

    def add(
        self,
        methods: str,
        path: str,
        *,
        summary: str = "",
        answers: Document | None = None,
        takes: Document | None = None,
        query: type[msgspec.Struct] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Decorate the handler of a path.

        Args:
            methods: in upper case, separated by spaces; only the first is described.
            path: with the names of its parameters in braces.
            summary: in three words; empty: it is not described.
            answers: as `openapi.gives`.
            takes: as `openapi.takes`.
            query: what its query may hold; the handler reads it with `body.read_query`.
        """

        def add(handler: Handler) -> Handler:
            for method in methods.split():
                told = summary if method == methods.split()[0] else ""
                operation = Operation(
                    method, path, handler, self._tag, told, answers or {}, takes or {}, query
                )
                self.operations.append(operation)
            return handler

        return add


def starlette_routes(operations: Iterable[Operation], hq: HqParts) -> list[Route]:
    """Make Starlette's routes, one for each path, so that a wrong method is told all that there are."""
    by_path: dict[str, dict[str, Handler]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation.handler
    return [_route(path, handlers, hq) for path, handlers in by_path.items()]


def _route(path: str, handlers: dict[str, Handler], hq: HqParts) -> Route:
    async def answer(request: Request) -> Response:
        return await handlers[request.method](request, hq)

    route = Route(path, answer, methods=list(handlers))
    route.methods = set(handlers)  # without the HEAD that Starlette adds: an event stream would never end
    return route
