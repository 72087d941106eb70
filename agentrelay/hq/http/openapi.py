"""The OpenAPI document: paths from the operations, schemas from the structs that are encoded and decoded.

An operation says what it takes and gives with `takes` and `gives`; nothing is described twice.
"""

import inspect
import re
from collections.abc import Iterable
from typing import Any

import msgspec

import agentrelay
from agentrelay.hq.auth import LOGIN_COOKIE
from agentrelay.hq.http.problems import PROBLEM_TYPE, Problem
from agentrelay.hq.http.routes import Operation

JSON = "application/json"
Answers = dict[str, dict[str, Any]]

_REF = "#/components/schemas/{name}"
_DESCRIPTION = """\
Mission control for command-line coding agents. Terminals themselves are WebSockets, described in
docs/protocol.md. Times are unix seconds, offsets are counts of output bytes since a session started."""

_structs: dict[str, type] = {"Problem": Problem}
_problems = {
    "400": "The body is not JSON, or the request has not exactly one Host header.",
    "401": "Not logged in, or the wrong token.",
    "403": "The wrong Host, or with a login cookie the wrong Origin.",
    "404": "There is nothing of this id.",
    "408": "The body took too long to arrive.",
    "409": "Not possible now: the runner is not connected, or the program has ended.",
    "413": "The body is too large.",
    "422": "A parameter or field is wrong, or the program could not be started; `code` says which.",
    "429": "Too many for now; Retry-After says when to try again, in seconds.",
    "500": "HQ failed.",
    "503": "HQ cannot use its database now: its disk is full, most likely.",
}


def gives(
    status: int, text: str, *answers: type | str, problems: str = "", headers: dict[str, str] | None = None
) -> Answers:
    """Describe the answers of an operation, for its `answers=`.

    Args:
        status: of the good answer.
        text: what the good answer is.
        answers: the structs it may hold as JSON, and media types of something else; none: it has no body.
        problems: further statuses that may be answered, separated by spaces.
        headers: headers of the good answer and what they say.
    """
    good: dict[str, Any] = {"description": text}
    content = {
        each if isinstance(each, str) else JSON: {
            "schema": {"type": "string"} if isinstance(each, str) else _reference(each)
        }
        for each in answers
    }
    if content:
        good["content"] = content
    if headers:
        good["headers"] = {
            name: {"description": said, "schema": {"type": "string"}} for name, said in headers.items()
        }
    described: Answers = {str(status): good}
    return described | {each: _problem(each) for each in f"400 401 403 500 {problems}".split()}


def takes(*bodies: type | str, open_to_all: bool = False) -> dict[str, Any]:
    """Describe the request of an operation, for its `takes=`.

    Args:
        bodies: the structs it takes as JSON, and media types of something else.
        open_to_all: it needs no login.
    """
    extra: dict[str, Any] = {"security": []} if open_to_all else {}
    content: dict[str, Any] = {
        body: {"schema": {"type": "string", "format": "binary"}} for body in bodies if isinstance(body, str)
    }
    schemas = [_reference(body) for body in bodies if not isinstance(body, str)]
    if schemas:
        content[JSON] = {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}
    if content:
        extra["requestBody"] = {"required": True, "content": content}
    return extra


def describe(operations: Iterable[Operation]) -> bytes:
    """Make the document of these operations, as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        if operation.summary:
            paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "AgentRelay HQ", "version": agentrelay.__version__, "description": _DESCRIPTION},
        "paths": paths,
    }
    _, schemas = msgspec.json.schema_components(_structs.values(), ref_template=_REF)
    document["components"] = {
        "schemas": _portable(schemas),
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "The admin token."},
            "login": {
                "type": "apiKey",
                "in": "cookie",
                "name": LOGIN_COOKIE,
                "description": "Set by POST /api/login. Needs HQ's own Origin wherever something changes.",
            },
        },
    }
    document["security"] = [{"bearer": []}, {"login": []}]
    return msgspec.json.encode(document)


def _operation(operation: Operation) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.query is not None:
        _, components = msgspec.json.schema_components([operation.query], ref_template=_REF)
        properties = components[operation.query.__name__]["properties"]
        parameters += [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in properties.items()
        ]
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": inspect.getdoc(operation.handler),
        "operationId": getattr(operation.handler, "__name__", operation.summary),
    }
    if parameters:
        described["parameters"] = parameters
    return described | {**operation.takes, "responses": operation.answers}


def _reference(struct: type) -> dict[str, str]:
    _structs[struct.__name__] = struct
    return {"$ref": _REF.format(name=struct.__name__)}


def _problem(status: str) -> dict[str, Any]:
    return {"description": _problems[status], "content": {PROBLEM_TYPE: {"schema": _reference(Problem)}}}


def _portable(schema: Any) -> Any:
    r"""Write patterns as JSON Schema has them: Python's \A and \Z are ^ and $ there."""
    if isinstance(schema, dict):
        return {
            key: value.replace(r"\A", "^").replace(r"\Z", "$") if key == "pattern" else _portable(value)
            for key, value in schema.items()
        }
    return [_portable(each) for each in schema] if isinstance(schema, list) else schema
