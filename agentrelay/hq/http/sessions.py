"""Sessions over HTTP: start, list, look at, type into, signal and end them."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from agentrelay.hq.http.body import read_json, read_query
from agentrelay.hq.http.openapi import JSON, gives, takes
from agentrelay.hq.http.parts import HqParts, Render, SessionPart
from agentrelay.hq.http.problems import HttpProblem
from agentrelay.hq.http.routes import Routes
from agentrelay.hq.info import ScreenInfo, SessionInfo
from agentrelay.protocol.messages import MAX_TEXT_BYTES, Cols, Name, Rows, Signal, StartSession

MAX_OUTPUT_BYTES = 4 << 20
"""Most that one answer of `/output` holds."""

PIECE_BYTES = 1 << 20
"""How much of an output or a recording is sent at once: what a peer that does not read can cost."""

LISTED_A_TURN = 32
"""How many sessions of a list are written before everything else has a turn."""

MAX_START_BYTES = MAX_TEXT_BYTES - 4_096
"""A start has to fit into one control message of the link, with room for what HQ adds."""

_RAW = "application/octet-stream"
_CAST = "application/x-asciicast"
_OFFSET_HEADER = "X-AgentRelay-Offset"

Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]

routes = Routes("sessions")


class SessionList(msgspec.Struct, frozen=True):
    """Every session that has not been removed, oldest first."""

    sessions: list[SessionInfo]


class NewSession(StartSession, kw_only=True):
    """What to start and where. Without `command` and `preset`: the user's login shell."""

    runner_id: str


class SessionChange(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; fields that are missing or null stay as they are."""

    name: Name | None = None
    rows: Rows | None = None
    cols: Cols | None = None


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """What to type: text, sent as UTF-8, or any bytes in base64. Exactly one of the two."""

    data: str | None = None
    data_base64: str | None = None


class ScreenQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How the screen is wanted: rows of text, in JSON or plain, or in JSON with their cells."""

    format: Literal["json", "cells", "text"] = "json"


class OutputQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which output is wanted: from this offset, up to that one."""

    start: Offset = msgspec.field(default=0, name="from")
    stop: Offset | None = msgspec.field(default=None, name="to")


class RecordingQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How the recording is wanted."""

    format: Literal["asciicast-v3", "asciicast-v2"] = "asciicast-v3"


class Stopping(msgspec.Struct, frozen=True, kw_only=True):
    """The program is being told to end."""

    status: Literal["stopping"] = "stopping"


def _session(request: Request, hq: HqParts) -> SessionPart:
    return hq.registry.session(request.path_params["session_id"])


def _json(answer: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(answer), status, headers, JSON)


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines: each piece is a trip to another thread and back."""
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


@routes.add("GET", "/api/sessions", summary="List sessions", answers=gives(200, "All sessions.", SessionList))
async def get_sessions(request: Request, hq: HqParts) -> Response:
    """Give every session, oldest first."""
    del request
    return Response(b'{"sessions":%s}' % await list_sessions(hq), media_type=JSON)


async def list_sessions(hq: HqParts) -> bytes:
    """Give the JSON of all sessions, oldest first, while everything else has its turns."""
    sessions = iter(hq.registry.describe_sessions())
    listed: list[bytes] = []
    while some := list(islice(sessions, LISTED_A_TURN)):
        listed += some
        # A runner on this machine that we have just woken waits for this CPU, be another one idle or not.
        os.sched_yield()
        await asyncio.sleep(0)
    return b"[%s]" % b",".join(listed)


@routes.add(
    "POST",
    "/api/sessions",
    summary="Start a session",
    answers=gives(
        201,
        "The session; its program runs.",
        SessionInfo,
        problems="404 409 413 422 429 503",
        headers={"Location": "Path of the session."},
    ),
    takes=takes(NewSession),
)
async def start_session(request: Request, hq: HqParts) -> Response:
    """Start a program on a runner and wait until it runs."""
    wish = await read_json(request, NewSession, max_bytes=MAX_START_BYTES)
    session = await hq.registry.start_session(wish.runner_id, wish)
    info = session.describe()
    return _json(info, 201, {"location": f"/api/sessions/{info.session_id}"})


@routes.add(
    "GET",
    "/api/sessions/{session_id}",
    summary="Get a session",
    answers=gives(200, "The session.", SessionInfo, problems="404 422"),
)
async def get_session(request: Request, hq: HqParts) -> Response:
    """Give one session."""
    return _json(_session(request, hq).describe())


@routes.add(
    "PATCH",
    "/api/sessions/{session_id}",
    summary="Rename or resize a session",
    answers=gives(200, "The session as it is now.", SessionInfo, problems="404 409 413 422"),
    takes=takes(SessionChange),
)
async def change_session(request: Request, hq: HqParts) -> Response:
    """Change a session's name or the size of its PTY."""
    session = _session(request, hq)
    change = await read_json(request, SessionChange)
    now = session.describe()
    if change.rows is not None or change.cols is not None:
        # First, because it is what can fail; a change is made whole or not at all.
        session.resize(rows=change.rows or now.rows, cols=change.cols or now.cols)
    if change.name is not None:
        session.rename(change.name)
    return _json(session.describe())


@routes.add(
    "DELETE",
    "/api/sessions/{session_id}",
    summary="End or remove a session",
    answers={
        **gives(202, "The program is being told to end.", Stopping, problems="404 422"),
        "204": {"description": "The session had ended, or cannot be reached; it and its log are removed."},
    },
)
async def delete_session(request: Request, hq: HqParts) -> Response:
    """End the program of a session, or remove a session that has ended.

    The program gets SIGHUP and SIGTERM, and SIGKILL after 5 s; its session stays, ended. While its runner is
    away it is ended as soon as the runner is back; asked for again meanwhile, the session is removed at once.
    """
    status = hq.registry.delete_session(request.path_params["session_id"])
    return _json(Stopping(), 202) if status == "stopping" else Response(status_code=204)


@routes.add(
    "POST",
    "/api/sessions/{session_id}/input",
    summary="Type into a session",
    answers=gives(204, "Taken.", problems="404 409 413 422 429"),
    takes=takes(Input, _RAW),
)
async def send_input(request: Request, hq: HqParts) -> Response:
    """Send input as if typed: JSON, or raw bytes as application/octet-stream."""
    session = _session(request, hq)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _RAW:
        data = await request.body()
    else:
        data = _input_bytes(await read_json(request, Input))
    if data:
        session.send_input(data)
    return Response(status_code=204)


@routes.add(
    "POST",
    "/api/sessions/{session_id}/signal",
    summary="Send a signal",
    answers=gives(204, "Sent.", problems="404 409 413 422"),
    takes=takes(Signal),
)
async def send_signal(request: Request, hq: HqParts) -> Response:
    """Send a signal to the session's foreground process group."""
    session = _session(request, hq)
    wish = await read_json(request, Signal)
    if not wish.is_known:
        raise HttpProblem(422, f"There is no signal {wish.name}.", code="bad_parameter")
    session.send_signal(wish.name)
    return Response(status_code=204)


@routes.add(
    "GET",
    "/api/sessions/{session_id}/screen",
    summary="Look at a session's screen",
    answers=gives(200, "The screen, as JSON or as text.", ScreenInfo, "text/plain", problems="404 422"),
    query=ScreenQuery,
)
async def get_screen(request: Request, hq: HqParts) -> Response:
    """Render a session's screen as it is now."""
    wish = read_query(request, ScreenQuery)
    render: Render = request.app.state.render
    screen = await render(_session(request, hq), cells=wish.format == "cells")
    if wish.format == "text":
        text = "".join(f"{row}\n" for row in screen.text)
        return Response(text, headers={_OFFSET_HEADER: str(screen.offset)}, media_type="text/plain")
    return _json(screen)


@routes.add(
    "GET",
    "/api/sessions/{session_id}/output",
    summary="Read a session's output",
    answers=gives(
        200,
        "Raw output.",
        _RAW,
        problems="404 422",
        headers={_OFFSET_HEADER: "Offset of the first byte of the body."},
    ),
    query=OutputQuery,
)
async def get_output(request: Request, hq: HqParts) -> Response:
    """Read output bytes from `from` up to `to`, possibly only the first part of them.

    An empty body is the end, for now or, once the session has ended, for good. Where bytes before `from` are
    no longer kept the answer starts at the oldest that are, and says so in its offset.
    """
    wish = read_query(request, OutputQuery)
    start, stop = wish.start, wish.stop
    session = _session(request, hq)
    if stop is None:
        wanted_bytes = MAX_OUTPUT_BYTES
    elif stop >= start:
        wanted_bytes = min(MAX_OUTPUT_BYTES, stop - start)
    else:
        raise HttpProblem(422, f"`to` is {stop}, which is before `from`, {start}.", code="bad_parameter")
    offset, first = start, b""
    if wanted_bytes:
        offset, first = await session.read_output(start, min(PIECE_BYTES, wanted_bytes))
    if stop is not None:
        wanted_bytes = max(0, min(wanted_bytes, stop - offset))
    pieces = _output(session, offset, first[:wanted_bytes], offset + wanted_bytes)
    return StreamingResponse(pieces, headers={_OFFSET_HEADER: str(offset)}, media_type=_RAW)


async def _output(session: SessionPart, offset: int, piece: bytes, stop: int) -> AsyncIterator[bytes]:
    """Give `piece`, which begins at `offset`, and what comes after it, up to `stop` or a gap."""
    while piece:
        yield piece
        offset += len(piece)
        found, piece = await session.read_output(offset, min(PIECE_BYTES, stop - offset))
        if found != offset:
            return


def _input_bytes(wish: Input) -> bytes:
    if (wish.data is None) == (wish.data_base64 is None):
        raise HttpProblem(422, "Give either `data` or `data_base64`.", code="bad_parameter")
    if wish.data is not None:
        return wish.data.encode()
    try:
        return base64.b64decode(wish.data_base64 or "", validate=True)
    except ValueError as error:
        raise HttpProblem(422, f"`data_base64` is not base64: {error}.", code="bad_parameter") from None


@routes.add(
    "GET",
    "/api/sessions/{session_id}/recording",
    summary="Export a session's recording",
    answers=gives(200, "The recording, as asciinema plays it.", _CAST, problems="404 409 422"),
    query=RecordingQuery,
)
async def get_recording(request: Request, hq: HqParts) -> Response:
    """Export what is in the output log as an asciicast, with the times and sizes it had."""
    session_id = request.path_params["session_id"]
    wish = read_query(request, RecordingQuery)
    lines = hq.registry.export_session(session_id, 3 if wish.format == "asciicast-v3" else 2)
    name = f'attachment; filename="{session_id}.cast"'
    return StreamingResponse(_pieces(lines), headers={"Content-Disposition": name}, media_type=_CAST)
