"""Logging in and out: a token becomes a cookie that a browser keeps for 30 days."""

import ipaddress
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

import agentrelay
from agentrelay.hq.auth import LOGIN_COOKIE, Principal, login_cookies
from agentrelay.hq.config import HqConfig, is_loopback
from agentrelay.hq.http.body import read_json
from agentrelay.hq.http.gate import PRINCIPAL
from agentrelay.hq.http.openapi import JSON, gives, takes
from agentrelay.hq.http.parts import HqParts
from agentrelay.hq.http.problems import HttpProblem
from agentrelay.hq.http.routes import Routes
from agentrelay.hq.store import LOGIN_LIFE_S

log = logging.getLogger("agentrelay.hq.http")

FAILURES_PER_MINUTE = 10
_MAX_ADDRESSES = 4_096

routes = Routes("login")


class Login(msgspec.Struct, frozen=True):
    """A token to log in with: the admin token, or the one of a login link, which works once."""

    token: Annotated[str, Meta(max_length=512)]


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asking: `login` is `cookie`, `bearer` or `none`."""

    login: str
    login_required: bool
    hq_version: str


class FailureLimit:
    """Counts failed logins by address over the last minute, in bounded memory.

    An attempt is counted before it is decided, so that many at once do not slip through, and is taken back
    when it succeeds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._attempts: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, address: str) -> int:
        """Count an attempt; gives 0, or the seconds to wait where there were too many already."""
        now = self._clock()
        attempts = self._attempts.setdefault(address, deque(maxlen=FAILURES_PER_MINUTE))
        self._attempts.move_to_end(address)
        while len(self._attempts) > _MAX_ADDRESSES:
            self._attempts.popitem(last=False)
        if len(attempts) == FAILURES_PER_MINUTE and now - attempts[0] < 60:
            return int(60 - (now - attempts[0])) + 1
        attempts.append(now)
        return 0

    def succeeded(self, address: str) -> None:
        """Take the last attempt back."""
        attempts = self._attempts.get(address)
        if attempts:
            attempts.pop()


@routes.add(
    "POST",
    "/api/login",
    summary="Log in",
    answers=gives(
        204, "Logged in.", problems="408 413 422 429 503", headers={"Set-Cookie": "The login, for 30 days."}
    ),
    takes=takes(Login, open_to_all=True),
)
async def log_in(request: Request, hq: HqParts) -> Response:
    """Turn the admin token or the token of a login link into a login cookie."""
    limit: FailureLimit = request.app.state.failure_limit
    address = client_address(request, hq.config)
    if wait_s := limit.take(address):
        raise HttpProblem(
            429,
            f"Too many failed logins from {address}: try again in {wait_s} s.",
            code="limit_reached",
            headers={"retry-after": str(wait_s)},
        )
    token = (await read_json(request, Login)).token
    is_admin = hq.auth.is_admin_token(token)
    # The database is asked in either case, so that a wrong token takes as long as a right one.
    cookie = await hq.store.redeem(token)
    if is_admin and cookie is None:
        cookie = await hq.store.create_login()
    if cookie is None:
        hq.metrics.logins_refused += 1
        log.warning("a login from %s was refused", address)
        raise HttpProblem(
            401,
            "This token does not log anybody in. A login link works once and for 10 minutes; "
            "`agentrelay-hq --login-link` makes a new one.",
            headers={"www-authenticate": "Bearer"},
        )
    limit.succeeded(address)
    hq.metrics.logins += 1
    log.info("a login from %s", address)
    return _with_cookie(request, hq.config, cookie, LOGIN_LIFE_S)


@routes.add(
    "POST",
    "/api/logout",
    summary="Log out",
    answers=gives(204, "Logged out; the cookie is void.", problems="503"),
)
async def log_out(request: Request, hq: HqParts) -> Response:
    """End the login of the cookie that came with the request."""
    for cookie in login_cookies(request.scope["headers"]):
        await hq.store.revoke(cookie)
    return _with_cookie(request, hq.config, "", 0)


@routes.add(
    "GET",
    "/api/me",
    summary="Who am I",
    answers=gives(200, "Whether and how the request is logged in.", Me),
    takes=takes(open_to_all=True),
)
async def me(request: Request, hq: HqParts) -> Response:
    """Tell how the request is logged in, and whether it has to be."""
    principal: Principal = request.scope[PRINCIPAL]
    login = principal.value if principal in (Principal.LOGIN, Principal.ADMIN) else "none"
    answer = Me(login=login, login_required=hq.auth.login_required, hq_version=agentrelay.__version__)
    return Response(msgspec.json.encode(answer), media_type=JSON)


def client_address(request: Request, config: HqConfig) -> str:
    """Give the address to count failures under; one /64 of IPv6 counts as one.

    Behind a proxy on this machine, which there is where HQ has a public URL, the proxy knows the address.
    """
    text = request.client.host if request.client else ""
    if config.public_urls and (not text or is_loopback(text)):
        forwarded = request.headers.getlist("x-forwarded-for")
        if forwarded:
            text = forwarded[-1].rpartition(",")[2].strip()
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)


def _with_cookie(request: Request, config: HqConfig, value: str, life_s: int) -> Response:
    cookie = f"{LOGIN_COOKIE}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict"
    if _is_secure(request, config):
        cookie += "; Secure"
    return Response(status_code=204, headers={"set-cookie": cookie})


def _is_secure(request: Request, config: HqConfig) -> bool:
    """Tell whether the browser reached HQ by https, itself or through a proxy."""
    if request.scope.get("scheme") == "https":
        return True
    secure = [url for url in config.public_urls if url.startswith("https://")]
    return request.headers.get("origin") in secure or request.headers.get("host", "").lower() in [
        urlsplit(url).netloc for url in secure
    ]
