"""Who gets in over HTTP: every route is walked, so that a new one is covered before anyone thinks of it."""

from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from agentrelay.hq.auth import Auth
from agentrelay.hq.http import make_app
from agentrelay.hq.http.ui import Ui
from agentrelay.hq.store import Store
from tests.hq.http.conftest import (
    ADMIN,
    BASE,
    PUBLIC,
    RUNNER,
    SESSION_ID,
    Asgi,
    FakeHq,
    client_of,
    make_config,
    make_hq,
    problem_of,
    render,
)

OPEN = {("GET", "/health"), ("HEAD", "/health"), ("POST", "/api/login"), ("GET", "/api/me")}
ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]


def routes_of(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Give every method and path, also of routers that are included as a whole."""
    for route in routes:
        if isinstance(route, Route):
            for method in route.methods or ():
                yield method, route.path
        else:
            yield from routes_of(route.original_router.routes)  # type: ignore[attr-defined]


def paths_of(app: Starlette) -> set[str]:
    return {path for _, path in routes_of(app.routes)}


def fill(path: str, value: str) -> str:
    """Give a path with its ids filled in; an id that is there is only one of sessions."""
    return path.replace("{session_id}", value).replace("{runner_id}", "box" if value == SESSION_ID else value)


def test_the_walk_finds_the_routes_there_are(app: Starlette) -> None:
    routes = set(routes_of(app.routes))
    assert len(routes) >= 19
    assert {
        ("GET", "/api/runners"),
        ("GET", "/api/runners/{runner_id}"),
        ("GET", "/api/sessions"),
        ("POST", "/api/sessions"),
        ("GET", "/api/sessions/{session_id}"),
        ("PATCH", "/api/sessions/{session_id}"),
        ("DELETE", "/api/sessions/{session_id}"),
        ("POST", "/api/sessions/{session_id}/input"),
        ("POST", "/api/sessions/{session_id}/signal"),
        ("GET", "/api/sessions/{session_id}/screen"),
        ("GET", "/api/sessions/{session_id}/output"),
        ("GET", "/api/events"),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/api/me"),
        ("POST", "/api/login"),
        ("POST", "/api/logout"),
    } <= routes


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {RUNNER}"},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {ADMIN}"},
        {"cookie": "agentrelay_login=wrong", "origin": BASE},
        {"cookie": f"agentrelay_login={ADMIN}", "origin": BASE},
    ],
)
async def test_every_route_says_401_before_it_looks_at_anything(
    app: Starlette, hq: FakeHq, headers: dict[str, str]
) -> None:
    async with client_of(app, headers) as client:
        for path in paths_of(app):
            for method in ALL_METHODS:
                if (method, path) in OPEN:
                    continue
                for rest in (fill(path, SESSION_ID), fill(path, "unknown") + "?from=-1&format=x&to=no"):
                    answer = await client.request(method, rest, content=b"\xff{")
                    assert answer.status_code == 401, (method, path)
                    assert answer.headers["www-authenticate"] == "Bearer"
                    if method != "HEAD":
                        problem_of(answer)
    assert hq.registry.started == []
    assert hq.registry.known_sessions[SESSION_ID].calls == []


@pytest.mark.parametrize(
    "path",
    ["/api/nothing", "/api", "/api/", "/ws/runner", "/ws/x", "/metrics/x", "/nothing.txt", "/.git/config"],
)
async def test_paths_that_do_not_exist_say_401_too(
    nobody: httpx.AsyncClient, admin: httpx.AsyncClient, path: str
) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert (await nobody.request(method, path)).status_code == 401
        assert (await admin.request(method, path)).status_code in (404, 426)


async def test_every_route_is_open_to_the_admin_token(admin: httpx.AsyncClient, app: Starlette) -> None:
    for method, path in routes_of(app.routes):
        if path != "/api/events":
            answer = await admin.request(method, fill(path, "unknown"))
            assert answer.status_code not in (401, 403, 405), (method, path)


async def test_a_cookie_opens_every_route_and_changes_nothing_from_a_foreign_page(
    app: Starlette, hq: FakeHq
) -> None:
    cookie = {"cookie": f"agentrelay_login={await hq.store.create_login()}"}
    for origin in ({}, {"origin": "http://evil.example"}, {"origin": "http://localhost:3000"}):
        async with client_of(app, cookie | origin) as client:
            for method, path in routes_of(app.routes):
                if path in ("/api/events", "/api/login"):
                    continue
                answer = await client.request(method, fill(path, SESSION_ID), content=b"{}")
                if method in ("GET", "HEAD"):
                    assert answer.status_code == 200, (method, path)
                else:
                    assert answer.status_code == 403, (method, path)
                    problem_of(answer)
    assert hq.registry.known_sessions[SESSION_ID].calls == [("read", 0, 1 << 20)] * 3
    for origin in ({"origin": BASE}, {"origin": PUBLIC}):
        async with client_of(app, cookie | origin) as client:
            answer = await client.patch(f"/api/sessions/{SESSION_ID}", json={"name": "x"})
            assert answer.status_code == 200


async def test_a_wrong_host_is_refused_on_every_route(app: Starlette) -> None:
    headers = {"authorization": f"Bearer {ADMIN}", "host": "evil.example"}
    async with client_of(app, headers) as client:
        for path in [*paths_of(app), "/", "/assets/x.js", "/nothing"]:
            for method in ("GET", "POST", "DELETE"):
                answer = await client.request(method, fill(path, SESSION_ID))
                assert answer.status_code == 403
                assert "--public-url" in problem_of(answer)["detail"]


@pytest.mark.parametrize("hosts", [[], [b"localhost", b"localhost"], [b"localhost", b"evil.example"]])
async def test_no_host_or_two_are_refused(asgi: Asgi, hosts: list[bytes]) -> None:
    answer = await asgi.request(headers=[(b"host", host) for host in hosts])
    assert answer.status == 400


async def test_two_authorization_headers_are_refused(asgi: Asgi) -> None:
    token = (b"authorization", f"Bearer {ADMIN}".encode())
    host = (b"host", b"localhost")
    assert (await asgi.request(path="/api/sessions", headers=[host, token])).status == 200
    assert (await asgi.request(path="/api/sessions", headers=[host, token, token])).status == 401


async def test_a_body_is_not_read_before_the_login(asgi: Asgi) -> None:
    await asgi.request("POST", "/api/sessions", body=[b"x" * 1000] * 10)
    assert (asgi.status, asgi.received) == (401, 0)
    await asgi.request("POST", "/api/nothing", body=[b"x"])
    assert (asgi.status, asgi.received) == (401, 0)


@pytest.mark.parametrize(
    ("headers", "closes"),
    [
        ([], False),
        ([(b"content-length", b"100")], False),
        ([(b"content-length", b"%d" % (16 << 20))], False),
        ([(b"content-length", b"%d" % (17 << 20))], True),
        ([(b"transfer-encoding", b"chunked")], True),
        ([(b"content-length", b"nonsense")], True),
    ],
)
async def test_a_large_body_that_is_refused_ends_the_connection(
    asgi: Asgi, headers: list[tuple[bytes, bytes]], closes: bool
) -> None:
    await asgi.request("POST", "/api/sessions", headers=[(b"host", b"localhost"), *headers])
    assert asgi.status == 401
    assert (asgi.headers.get("connection") == "close") is closes


async def test_without_login_everything_is_open_but_to_foreign_pages(store: Store, ui_dir: object) -> None:
    hq = make_hq(make_config(no_login=True, public_urls=()), store)
    app = make_app(hq, render=render)
    async with client_of(app) as client:
        assert (await client.get("/api/sessions")).status_code == 200
        assert (await client.patch(f"/api/sessions/{SESSION_ID}", json={"name": "x"})).status_code == 200
        assert (await client.get("/api/me")).json()["login_required"] is False
        assert (await client.get("/api/me")).json()["login"] == "none"
    async with client_of(app, {"origin": "http://evil.example"}) as client:
        assert (await client.patch(f"/api/sessions/{SESSION_ID}", json={"name": "x"})).status_code == 403
    async with client_of(app, {"host": "evil.example"}) as client:
        assert (await client.get("/api/sessions")).status_code == 403


async def test_every_answer_carries_the_security_headers(
    app: Starlette, nobody: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    answers = [
        await nobody.get("/"),
        await nobody.get("/health"),
        await nobody.get("/api/sessions"),
        await nobody.get("/health", headers={"host": "evil.example"}),
        await admin.get("/api/sessions"),
        await admin.get("/api/nothing"),
        await admin.post("/api/sessions", content=b"{"),
        await admin.get(f"/api/sessions/{SESSION_ID}/output"),
    ]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 400, 401, 403, 404]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src 'self';" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["cache-control"] in ("no-store", "no-cache")


async def test_a_preflight_gives_no_permission(nobody: httpx.AsyncClient) -> None:
    answer = await nobody.options(
        "/api/sessions", headers={"origin": "http://evil.example", "access-control-request-method": "POST"}
    )
    assert answer.status_code == 401
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_other_asgi_scopes_are_not_accepted(app: Starlette) -> None:
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    await app({"type": "websocket", "path": "/ws/session/x", "headers": []}, receive, send)
    assert sent == []


async def test_a_ui_file_is_open_to_everyone_and_only_to_read(hq: FakeHq, ui_dir: object) -> None:
    assert isinstance(hq.auth, Auth)
    app = make_app(hq, render=render, ui=Ui())
    async with client_of(app) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.post("/")).status_code == 401
