"""Request bodies and queries: text in, typed structs out, or a problem that says what is wrong with them."""

from typing import TypeVar

import msgspec
import orjson
from starlette.requests import Request

from agentrelay.hq.http.problems import HttpProblem

T = TypeVar("T")

MAX_DETAIL_CHARS = 300
MAX_DIGITS = 20
"""Of a number in a query: those of 2^64 and no more, which costs nothing to read."""


async def read_json(request: Request, expected: type[T], *, max_bytes: int | None = None) -> T:
    """Read a JSON body as a struct; unknown fields are ignored, as everywhere in docs/protocol.md.

    The content type is not looked at: who may send requests at all is decided by `auth`, not by the rules
    browsers have for content types, and `curl -d` sends the wrong one.

    Raises:
        HttpProblem: 413 above `max_bytes`, 400 for what is no JSON, 422 for a wrong or missing field.
    """
    body = await request.body()
    if max_bytes is not None and len(body) > max_bytes:
        raise too_large(max_bytes)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpProblem(400, f"The body is not JSON: {error}.", code="bad_json") from None
    try:
        return msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        raise HttpProblem(422, f"{error}.", code="bad_parameter") from None


def read_query(request: Request, expected: type[T]) -> T:
    """Read the query as a struct; of a repeated name the last counts, unknown names are ignored.

    Raises:
        HttpProblem: 422 for a wrong value.
    """
    values = {
        name: int(value) if value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS else value
        for name, value in request.query_params.items()
    }
    try:
        return msgspec.convert(values, expected)
    except msgspec.ValidationError as error:
        # It may quote the value, which can be as long as a URL.
        raise HttpProblem(422, f"{str(error)[:MAX_DETAIL_CHARS]}.", code="bad_parameter") from None


def too_large(max_bytes: int) -> HttpProblem:
    """Make the problem for a body that is too large."""
    return HttpProblem(413, f"The body may have at most {max_bytes} bytes.", code="too_large")
