import asyncio
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from agentrelay.hq.auth import LOGIN_COOKIE
from agentrelay.hq.http import gate, make_app
from agentrelay.hq.http.login import FailureLimit, client_address
from agentrelay.hq.store import Store
from tests.hq.http.conftest import (
    ADMIN,
    BASE,
    PUBLIC,
    RUNNER,
    Asgi,
    FakeHq,
    client_of,
    make_config,
    make_hq,
    problem_of,
    render,
)


def cookie_of(answer: httpx.Response) -> "SimpleCookie":
    return SimpleCookie(answer.headers["set-cookie"])


async def log_in(client: httpx.AsyncClient, token: str, **headers: str) -> httpx.Response:
    return await client.post("/api/login", json={"token": token}, headers=headers)


async def test_the_admin_token_logs_in_as_often_as_it_is_given(nobody: httpx.AsyncClient, hq: FakeHq) -> None:
    cookies = set()
    for _ in range(2):
        answer = await log_in(nobody, ADMIN)
        assert (answer.status_code, answer.content) == (204, b"")
        cookies.add(cookie_of(answer)[LOGIN_COOKIE].value)
    assert len(cookies) == 2
    assert all(hq.store.check_login(cookie) for cookie in cookies)
    assert hq.metrics.logins == 2


async def test_a_login_link_logs_in_once(nobody: httpx.AsyncClient, hq: FakeHq) -> None:
    token = await hq.store.create_login_link()
    assert (await log_in(nobody, token)).status_code == 204
    assert (await log_in(nobody, token)).status_code == 401


async def test_the_cookie_is_kept_from_scripts_and_other_sites(nobody: httpx.AsyncClient) -> None:
    answer = await log_in(nobody, ADMIN)
    cookie = cookie_of(answer)[LOGIN_COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert cookie["path"] == "/"
    assert cookie["max-age"] == str(30 * 24 * 3600)
    assert not cookie["secure"]
    assert not cookie["domain"]


@pytest.mark.parametrize("headers", [{"host": "relay.example.com"}, {"origin": PUBLIC}])
async def test_the_cookie_of_a_public_https_origin_is_secure(
    nobody: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert cookie_of(await log_in(nobody, ADMIN, **headers))[LOGIN_COOKIE]["secure"]


async def test_the_cookie_of_an_https_request_is_secure(app: Starlette) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://localhost:8080") as client:
        assert cookie_of(await log_in(client, ADMIN))[LOGIN_COOKIE]["secure"]


async def test_the_cookie_opens_and_logging_out_ends_it(app: Starlette) -> None:
    async with client_of(app, {"origin": BASE}) as browser:
        assert (await browser.get("/api/me")).json() == {
            "login": "none",
            "login_required": True,
            "hq_version": "0.1.0",
        }
        await log_in(browser, ADMIN)
        cookie = browser.cookies[LOGIN_COOKIE]
        assert (await browser.get("/api/me")).json()["login"] == "cookie"
        assert (await browser.get("/api/sessions")).status_code == 200
        answer = await browser.post("/api/logout")
        assert answer.status_code == 204
        assert cookie_of(answer)[LOGIN_COOKIE]["max-age"] == "0"
        assert LOGIN_COOKIE not in browser.cookies
        assert (await browser.get("/api/sessions")).status_code == 401
        stolen = {"cookie": f"{LOGIN_COOKIE}={cookie}"}
        assert (await browser.get("/api/sessions", headers=stolen)).status_code == 401
        assert (await browser.post("/api/logout")).status_code == 401


async def test_a_bearer_is_told_that_it_is_one(admin: httpx.AsyncClient) -> None:
    assert (await admin.get("/api/me")).json()["login"] == "bearer"
    assert (await admin.post("/api/logout")).status_code == 204


@pytest.mark.parametrize("token", ["", "wrong", RUNNER, "\0", "é", " " + ADMIN, ADMIN + " ", "x" * 512])
async def test_any_other_token_is_refused(nobody: httpx.AsyncClient, hq: FakeHq, token: str) -> None:
    answer = await log_in(nobody, token)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    problem_of(answer)
    assert hq.metrics.logins_refused == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff", 400),
        (b'{"token": "\\ud800"}', 400),
        (b"{}", 422),
        (b"[]", 422),
        (b'{"token": 5}', 422),
        (b'{"token": null}', 422),
        (b'{"token": "%s"}' % (b"x" * 513), 422),
        (b'{"token": "%s"}' % (b"x" * 5000), 413),
    ],
)
async def test_what_is_no_token_is_refused(nobody: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await nobody.post("/api/login", content=body)
    assert answer.status_code == status
    problem_of(answer)


async def test_nobody_gets_to_send_a_large_body_to_the_login(asgi: Asgi) -> None:
    headers = [(b"host", b"localhost"), (b"transfer-encoding", b"chunked")]
    await asgi.request("POST", "/api/login", headers, [b"x" * 1000] * 100)
    assert (asgi.status, asgi.received) == (413, 5)


async def test_a_body_that_breaks_off_is_not_logged_as_a_fault(
    asgi: Asgi, caplog: pytest.LogCaptureFixture
) -> None:
    await asgi.request("POST", "/api/login", [(b"host", b"localhost")], [b'{"token": "'], breaks_off=True)
    assert asgi.status == 0
    assert caplog.records == []


async def test_nobody_gets_to_send_a_body_for_ever(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "OPEN_BODY_S", 0.01)

    async def drip() -> AsyncIterator[bytes]:
        yield b'{"token": "'
        await asyncio.Event().wait()

    async with client_of(app) as client:
        answer = await client.post("/api/login", content=drip())
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")
    problem_of(answer)


async def test_a_foreign_page_cannot_log_a_browser_in(nobody: httpx.AsyncClient) -> None:
    assert (await log_in(nobody, ADMIN, origin="http://evil.example")).status_code == 403


async def test_without_an_admin_token_only_links_log_in(store: Store) -> None:
    hq = make_hq(make_config(admin_token=None), store)
    async with client_of(make_app(hq, render=render)) as client:
        assert (await log_in(client, "")).status_code == 401
        assert (await log_in(client, await store.create_login_link())).status_code == 204


# --- failures ----------------------------------------------------------------------------------------------


async def test_the_eleventh_failure_in_a_minute_is_refused_unseen(app: Starlette, hq: FakeHq) -> None:
    token = await hq.store.create_login_link()
    async with client_of(app, client=("10.0.0.1", 5)) as client:
        answers = [(await log_in(client, "wrong")).status_code for _ in range(11)]
        assert answers == [401] * 10 + [429]
        answer = await log_in(client, token)  # a right one is not looked at either
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert problem_of(answer)["code"] == "limit_reached"
    async with client_of(app, client=("10.0.0.2", 5)) as other:
        assert (await log_in(other, token)).status_code == 204


async def test_many_failures_at_once_do_not_slip_through(app: Starlette) -> None:
    async with client_of(app) as client:
        answers = await asyncio.gather(*(log_in(client, "wrong") for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 20


async def test_logins_that_succeed_do_not_count(app: Starlette) -> None:
    async with client_of(app) as client:
        for _ in range(15):
            assert (await log_in(client, ADMIN)).status_code == 204
        assert (await log_in(client, "wrong")).status_code == 401


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_a_failure_is_forgotten_after_a_minute() -> None:
    clock = Clock()
    limit = FailureLimit(clock)
    for _ in range(10):
        assert limit.take("a") == 0
        clock.now += 1
    assert limit.take("a") == 51
    assert limit.take("b") == 0
    clock.now += 50
    assert limit.take("a") == 0
    assert limit.take("a") == 2


def test_the_addresses_that_are_remembered_are_bounded() -> None:
    limit = FailureLimit(Clock())
    for n in range(10_000):
        limit.take(str(n))
    assert len(limit._attempts) == 4096


def request_from(address: str | None, *forwarded: str) -> Request:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return Request({"type": "http", "headers": headers, "client": (address, 5) if address else None})


@pytest.mark.parametrize(
    ("address", "forwarded", "counted"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "10.0.0.1"),
        ("127.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("127.0.0.1", ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
        ("127.0.0.1", ["nonsense"], "unknown"),
        ("127.0.0.1", [""], "unknown"),
        (None, [], "unknown"),
    ],
)
def test_failures_count_for_the_address_they_come_from(
    address: str | None, forwarded: list[str], counted: str
) -> None:
    assert client_address(request_from(address, *forwarded), make_config()) == counted


def test_without_a_public_url_there_is_no_proxy_to_believe() -> None:
    config = make_config(public_urls=())
    assert client_address(request_from("127.0.0.1", "1.2.3.4"), config) == "127.0.0.1"
