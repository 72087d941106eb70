"""Who may do what at HQ: the one place that decides, before anything else looks at a request.

Pure: a request line and headers in, `Allowed` or `Refused` out. The HTTP app and the WebSocket take-over both
ask here. In order:

1. `Host` must be a name HQ answers to (403), else a foreign page could reach HQ by pointing its own name at
   it (DNS rebinding).
2. `/ws/runner` is opened by the runner token and by nothing else; the runner token opens nothing else.
3. Everything else needs the admin token as a bearer or a login cookie (401), except the few paths a browser
   needs to get that far.
4. A browser sends its cookie along for whoever asks, so on every upgrade and every request that changes
   something the `Origin`, if there is one, must be HQ's own, and with the cookie there must be one (403).
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self
from urllib.parse import urlsplit

from agentrelay.hq.config import HqConfig

LOGIN_COOKIE = "agentrelay_login"
RUNNER_PATH = "/ws/runner"

Headers = Sequence[tuple[bytes, bytes]]
"""As in ASGI: names in lower case, values as they came, repeated headers repeated."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_CLOSED_PREFIXES = frozenset({"api", "ws", "metrics", "openapi.json"})
_OPEN_ENDPOINTS = frozenset(
    {("GET", "/health"), ("HEAD", "/health"), ("POST", "/api/login"), ("GET", "/api/me")}
)
_MAX_COOKIES_TRIED = 64


class Principal(Enum):
    """What a request proved to be."""

    NOBODY = "nobody"
    """Nothing proved; only what is open to everyone."""
    LOGIN = "cookie"
    ADMIN = "bearer"
    ANYONE = "none"
    """`--no-login`: whoever reaches HQ."""
    RUNNER = "runner"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The request may go on, as `principal`."""

    principal: Principal


@dataclass(frozen=True, slots=True)
class Refused:
    """The request ends here with this HTTP status; `detail` is a sentence for people."""

    status: int
    title: str
    detail: str


class Auth:
    """The rules with this HQ's tokens and names filled in.

    Args:
        runner_token: opens `/ws/runner`; empty: nothing does.
        admin_token: the fixed bearer token; None or empty: there is none.
        no_login: everyone who passes the `Host` and `Origin` rules may do everything but be a runner.
        public_origins: origins such as `https://relay.example.com`; also allow their host names.
        own_hosts: further host names or addresses HQ is reached by, as in a `Host` header without port.
        check_login: tells whether a login cookie is valid; has to be fast.
    """

    def __init__(
        self,
        *,
        runner_token: str,
        admin_token: str | None,
        no_login: bool,
        public_origins: Collection[str] = (),
        own_hosts: Collection[str] = (),
        check_login: Callable[[str], bool],
    ) -> None:
        self.login_required = not no_login
        self._runner_digest = _digest(runner_token.encode()) if runner_token else None
        self._admin_digest = _digest(admin_token.encode()) if admin_token else None
        self._check_login = check_login
        self._public_origins = frozenset(origin.lower() for origin in public_origins)
        self._own_hosts = _LOOPBACK_NAMES | {host.lower() for host in own_hosts}
        self._hosts = self._own_hosts | {
            name for origin in self._public_origins if (name := host_name(urlsplit(origin).netloc))
        }

    @classmethod
    def from_config(cls, config: HqConfig, check_login: Callable[[str], bool]) -> Self:
        """Make the rules of an HQ that was started with `config`."""
        return cls(
            runner_token=config.runner_token,
            admin_token=config.admin_token,
            no_login=config.no_login,
            public_origins=config.public_urls,
            own_hosts=config.own_hosts(),
            check_login=check_login,
        )

    def check_http(
        self, method: str, path: str, headers: Headers, *, scheme: str = "http", is_ui_file: bool = False
    ) -> Allowed | Refused:
        """Decide about a plain HTTP request before its body is read or its path is looked up.

        Args:
            method: in upper case.
            path: decoded, without the query.
            headers: as in ASGI.
            scheme: how the request came, `http` or `https`.
            is_ui_file: the path names a file of the built web UI, which everyone may read.
        """
        refused = self._check_host(headers)
        if refused:
            return refused
        principal = self._identify(headers)
        if isinstance(principal, Refused):
            return principal
        is_open = _is_open(method, path, is_ui_file)
        if method not in _SAFE_METHODS:
            # What is open does not go by the cookie, so a program that happens to keep one needs no Origin.
            required = principal is Principal.LOGIN and not is_open
            refused = self._check_origin(headers, scheme, required=required)
            if refused:
                return refused
        if principal is Principal.NOBODY and not is_open:
            return _UNAUTHORIZED
        return Allowed(principal)

    def check_upgrade(self, path: str, headers: Headers, *, scheme: str = "http") -> Allowed | Refused:
        """Decide about a WebSocket upgrade before its path is looked up. Arguments as for `check_http`."""
        refused = self._check_host(headers)
        if refused:
            return refused
        if path == RUNNER_PATH:
            token = _bearer(headers)
            if isinstance(token, bytes) and _matches(token, self._runner_digest):
                return Allowed(Principal.RUNNER)
            return _UNAUTHORIZED
        principal = self._identify(headers)
        if isinstance(principal, Refused):
            return principal
        refused = self._check_origin(headers, scheme, required=principal is Principal.LOGIN)
        if refused:
            return refused
        return Allowed(principal) if principal is not Principal.NOBODY else _UNAUTHORIZED

    def is_admin_token(self, token: str) -> bool:
        """Tell whether `token` is the admin token, in a time that does not depend on it."""
        return _matches(token.encode("utf-8", "surrogatepass"), self._admin_digest)

    def _check_host(self, headers: Headers) -> Refused | None:
        hosts = _values(headers, b"host")
        if len(hosts) != 1:
            return Refused(400, "Bad Request", "A request needs exactly one Host header.")
        if host_name(hosts[0].decode("latin-1")) not in self._hosts:
            return _WRONG_HOST
        return None

    def _check_origin(self, headers: Headers, scheme: str, *, required: bool) -> Refused | None:
        if _bearer(headers) is not None:
            return None  # no page can make a browser send one
        origins = _values(headers, b"origin")
        if not origins and not required:
            return None
        if len(origins) != 1:
            return _WRONG_ORIGIN
        origin = origins[0].decode("latin-1")
        if origin in self._public_origins:
            return None
        host = _values(headers, b"host")[0].decode("latin-1").lower()
        if host_name(host) in self._own_hosts and origin == f"{scheme}://{host}":
            return None
        return _WRONG_ORIGIN

    def _identify(self, headers: Headers) -> Principal | Refused:
        token = _bearer(headers)
        if isinstance(token, Refused):
            return token
        if token is not None:
            # A wrong token is not saved by a cookie or by `--no-login`: who sent it wants to know.
            return Principal.ADMIN if _matches(token, self._admin_digest) else Principal.NOBODY
        if any(self._check_login(cookie) for cookie in login_cookies(headers)):
            return Principal.LOGIN
        return Principal.NOBODY if self.login_required else Principal.ANYONE


def login_cookies(headers: Headers) -> list[str]:
    """Give the values of the login cookie a request carries, normally one.

    Several come where another program on the same host name set one for a deeper path; so each is tried.
    """
    found: list[str] = []
    for value in _values(headers, b"cookie"):
        for pair in value.decode("latin-1").split(";"):
            name, _, content = pair.strip(" \t").partition("=")
            if name == LOGIN_COOKIE and len(found) < _MAX_COOKIES_TRIED:
                found.append(content)
    return found


def host_name(host: str) -> str | None:
    """Give the name of a `Host` value in lower case without its port; None where it is malformed.

    An IPv6 address keeps its brackets.
    """
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        name += bracket
        try:
            ipaddress.IPv6Address(name[1:-1])
        except ValueError:
            return None
        well_formed = not rest or (rest.startswith(":") and _is_port(rest[1:]))
    else:
        name, colon, port = host.partition(":")
        well_formed = bool(name) and (not colon or _is_port(port))
    return name.lower() if well_formed else None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


def _is_open(method: str, path: str, is_ui_file: bool) -> bool:
    if (method, path) in _OPEN_ENDPOINTS:
        return True
    if method not in ("GET", "HEAD"):
        return False
    # The UI is one page with many paths; one with a dot is a file, and has to be one of the UI's.
    first, _, _ = path.removeprefix("/").partition("/")
    if not path.startswith("/") or first in _CLOSED_PREFIXES or first == "health":
        return False
    return is_ui_file or "." not in path


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _bearer(headers: Headers) -> bytes | Refused | None:
    """Give the bearer token, None without one. Other schemes are a proxy's business and are ignored."""
    values = _values(headers, b"authorization")
    if len(values) > 1:
        return Refused(401, "Unauthorized", "A request may carry one Authorization header, not several.")
    scheme, _, token = values[0].strip(b" \t").partition(b" ") if values else (b"", b"", b"")
    return token.strip(b" \t") if scheme.lower() == b"bearer" else None


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _matches(token: bytes, digest: bytes | None) -> bool:
    # Digests have one length, so the comparison says nothing about the length of the secret either. Without a
    # secret the same work is done against a digest that nothing has.
    same = hmac.compare_digest(_digest(token), digest if digest is not None else bytes(32))
    return same and digest is not None and bool(token)


_UNAUTHORIZED = Refused(
    401, "Unauthorized", "This needs a login, or a token that opens it: Authorization: Bearer <token>."
)
_WRONG_HOST = Refused(
    403,
    "Forbidden",
    "HQ does not answer to this Host name. Start it with --public-url (AGENTRELAY_PUBLIC_URL) to add one.",
)
_WRONG_ORIGIN = Refused(
    403,
    "Forbidden",
    "This needs an Origin header that is HQ's own address, so that no other page can act with a login. "
    "Behind a proxy, start HQ with --public-url (AGENTRELAY_PUBLIC_URL).",
)
