import json
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from agentrelay.hq.info import RunnerInfo, SessionInfo
from tests.hq.http.conftest import RUNNER_INFO, SESSION_ID, Asgi, FakeHq, make_session, problem_of
from tests.hq.http.test_access import routes_of


async def test_health_counts_connected_runners_and_known_sessions(
    nobody: httpx.AsyncClient, hq: FakeHq
) -> None:
    hq.registry.known_runners["away"] = msgspec.structs.replace(RUNNER_INFO, online=False)
    hq.registry.known_sessions["e"] = make_session("e", state="ended")
    answer = await nobody.get("/health")
    assert answer.json() == {"status": "ok", "version": "0.1.0", "runners": 1, "sessions": 2}
    assert (await nobody.head("/health")).status_code == 200


async def test_runners_are_listed_and_given_alone(admin: httpx.AsyncClient) -> None:
    [runner] = (await admin.get("/api/runners")).json()["runners"]
    assert msgspec.convert(runner, RunnerInfo) == RUNNER_INFO
    assert (await admin.get("/api/runners/box")).json() == runner


@pytest.mark.parametrize("runner_id", ["unknown", "%00", "%ff", "a" * 5000, "%2e%2e"])
async def test_an_unknown_runner_is_said_to_be_unknown(admin: httpx.AsyncClient, runner_id: str) -> None:
    answer = await admin.get(f"/api/runners/{runner_id}")
    assert (answer.status_code, problem_of(answer)["code"]) == (404, "unknown_runner")


async def test_metrics_are_what_prometheus_reads(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"agentrelay_runners", "agentrelay_sessions", "agentrelay_output_bytes"} <= names


# --- problems ----------------------------------------------------------------------------------------------


async def test_a_method_that_a_path_does_not_take_is_a_405(admin: httpx.AsyncClient) -> None:
    answer = await admin.put("/api/sessions")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST"}
    several = await admin.put(f"/api/sessions/{SESSION_ID}")
    assert set(several.headers["allow"].split(", ")) == {"DELETE", "GET", "PATCH"}
    problem_of(answer)


async def test_what_nobody_expects_is_logged_once_and_not_told(
    admin: httpx.AsyncClient, hq: FakeHq, caplog: pytest.LogCaptureFixture
) -> None:
    hq.registry.error = RuntimeError("secret detail")
    answer = await admin.post("/api/sessions", json={"runner_id": "box"})
    assert answer.status_code == 500
    assert problem_of(answer)["code"] == "internal"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    [record] = caplog.records
    assert record.exc_info is not None
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_problem_can_say_what_json_cannot_hold(
    admin: httpx.AsyncClient, hq: FakeHq, asgi: Asgi
) -> None:
    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer admin-token-of-this-test")]
    await asgi.request("GET", "/api/sessions/\ud800", headers=headers)
    assert asgi.status == 404
    assert json.loads(asgi.body)["code"] == "unknown_session"


# --- the OpenAPI document ----------------------------------------------------------------------------------


@pytest.fixture
async def document(admin: httpx.AsyncClient) -> dict[str, Any]:
    answer = await admin.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    parsed: dict[str, Any] = answer.json()
    return parsed


def operations_of(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def references_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if "$ref" in value else set()
        return found.union(*(references_in(each) for each in value.values()))
    return set().union(*(references_in(each) for each in value)) if isinstance(value, list) else set()


async def test_every_route_is_described(document: dict[str, Any], app: Starlette) -> None:
    assert document["openapi"].startswith("3.")
    described = set(operations_of(document))
    assert described == set(routes_of(app.routes)) - {("GET", "/openapi.json"), ("HEAD", "/health")}
    for operation in operations_of(document).values():
        assert operation["summary"]
        assert operation["description"]


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = references_in(document)
    assert len(references) >= 15
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_what_needs_no_login_is_described_so(document: dict[str, Any]) -> None:
    operations = operations_of(document)
    open_to_all = {key for key, operation in operations.items() if operation.get("security") == []}
    assert open_to_all == {("GET", "/health"), ("POST", "/api/login"), ("GET", "/api/me")}
    assert document["security"] == [{"bearer": []}, {"login": []}]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "login"}


async def test_bodies_are_described(document: dict[str, Any]) -> None:
    operations = operations_of(document)
    start = operations["POST", "/api/sessions"]["requestBody"]["content"]["application/json"]["schema"]
    assert start == {"$ref": "#/components/schemas/NewSession"}
    fields = document["components"]["schemas"]["NewSession"]["properties"]
    assert {"runner_id", "command", "preset", "cwd", "env", "rows", "cols", "name"} <= set(fields)
    assert fields["rows"]["maximum"] == 1000
    typed = operations["POST", "/api/sessions/{session_id}/input"]["requestBody"]["content"]
    assert set(typed) == {"application/json", "application/octet-stream"}
    with_body = {key for key, operation in operations.items() if "requestBody" in operation}
    assert {method for method, _ in with_body} == {"POST", "PATCH"}


async def test_parameters_are_described(document: dict[str, Any]) -> None:
    parameters = operations_of(document)["GET", "/api/sessions/{session_id}/output"]["parameters"]
    assert [(each["name"], each["in"], each["required"]) for each in parameters] == [
        ("session_id", "path", True),
        ("from", "query", False),
        ("to", "query", False),
    ]
    assert parameters[1]["schema"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 2**63 - 1,
        "default": 0,
    }


async def test_patterns_are_ones_that_every_language_has(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert '"pattern"' in text
    assert "\\\\A" not in text
    assert "\\\\Z" not in text


async def test_answers_are_as_described(document: dict[str, Any], admin: httpx.AsyncClient) -> None:
    schemas = document["components"]["schemas"]
    session = (await admin.get(f"/api/sessions/{SESSION_ID}")).json()
    described = schemas["SessionInfo"]
    assert set(session) == set(described["properties"]) == set(described["required"])
    assert set(schemas["SessionInfo"]["properties"]) == set(SessionInfo.__struct_fields__)
    runner = (await admin.get("/api/runners/box")).json()
    assert set(runner) == set(schemas["RunnerInfo"]["properties"])
    assert set((await admin.get("/health")).json()) == set(schemas["Health"]["properties"])


async def test_every_status_a_test_saw_is_described(document: dict[str, Any]) -> None:
    for (_, path), operation in operations_of(document).items():
        assert {"400", "401", "403", "500"} <= set(operation["responses"])
        if "{" in path:
            assert "404" in operation["responses"]
        for status, answer in operation["responses"].items():
            if status >= "400":
                assert list(answer["content"]) == ["application/problem+json"]


async def test_pages_that_load_from_elsewhere_are_off(admin: httpx.AsyncClient) -> None:
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert "swagger" not in (await admin.get(path)).text.lower()
