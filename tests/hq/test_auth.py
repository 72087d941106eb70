import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrelay.hq.auth import Allowed, Auth, Headers, Principal, Refused, host_name, login_cookies

ADMIN = "admin-token-of-this-test"
RUNNER = "runner-token-of-this-test"
COOKIE = "valid-cookie"
UNTIMED = settings(deadline=None)  # the machine may be busy
HOST = (b"host", b"localhost:8080")
ORIGIN = (b"origin", b"http://localhost:8080")
LOGIN = (b"cookie", b"agentrelay_login=valid-cookie")
PUBLIC = "https://relay.example.com"
OPEN = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/session/abc"),
    ("GET", "/health"),
    ("POST", "/api/login"),
    ("GET", "/api/me"),
]
CLOSED = [
    ("GET", "/api/sessions"),
    ("GET", "/api"),
    ("GET", "/api/"),
    ("GET", "/api/login"),
    ("GET", "/api/me/"),
    ("HEAD", "/api/me"),
    ("POST", "/api/me"),
    ("POST", "/api/nothing"),
    ("POST", "/"),
    ("OPTIONS", "/"),
    ("PROPFIND", "/"),
    ("GET", "/metrics"),
    ("GET", "/metrics/"),
    ("GET", "/openapi.json"),
    ("GET", "/ws/runner"),
    ("GET", "/ws/anything"),
    ("GET", "/health/"),
    ("POST", "/health"),
    ("GET", "/.env"),
    ("GET", "/.git/config"),
    ("GET", "/assets/missing.js"),
    ("GET", "/a/b.txt"),
    ("GET", ""),
    ("OPTIONS", "*"),
]


def bearer(token: str) -> tuple[bytes, bytes]:
    return (b"authorization", b"Bearer " + token.encode())


def make(**changes: object) -> Auth:
    settings: dict[str, object] = {
        "runner_token": RUNNER,
        "admin_token": ADMIN,
        "no_login": False,
        "public_origins": (PUBLIC,),
        "check_login": lambda cookie: cookie == COOKIE,
    }
    return Auth(**(settings | changes))  # type: ignore[arg-type]


AUTH = make()
NO_LOGIN = make(no_login=True)


def status(decision: Allowed | Refused) -> int:
    return 200 if isinstance(decision, Allowed) else decision.status


def http(*headers: tuple[bytes, bytes], method: str = "GET", path: str = "/api/sessions") -> int:
    return status(AUTH.check_http(method, path, [HOST, *headers]))


def upgrade(*headers: tuple[bytes, bytes], path: str = "/ws/session/x") -> int:
    return status(AUTH.check_upgrade(path, [HOST, *headers]))


# --- who ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_open_paths_need_nothing(method: str, path: str) -> None:
    assert AUTH.check_http(method, path, [HOST]) == Allowed(Principal.NOBODY)


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_everything_else_needs_a_login(method: str, path: str) -> None:
    assert http(method=method, path=path) == 401
    assert http(bearer(ADMIN), method=method, path=path) == 200
    assert http(LOGIN, ORIGIN, method=method, path=path) == 200


@UNTIMED
@given(method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "X"]), rest=st.text(max_size=20))
def test_nothing_below_api_ws_or_metrics_is_open_but_the_two(method: str, rest: str) -> None:
    for prefix in ("/api/", "/ws/", "/metrics", "/openapi.json"):
        first = (prefix + rest).removeprefix("/").partition("/")[0]
        if first in ("api", "ws", "metrics", "openapi.json") and (method, prefix + rest) not in OPEN:
            assert status(AUTH.check_http(method, prefix + rest, [HOST])) == 401


def test_a_file_of_the_ui_is_open_to_read_only() -> None:
    path = "/assets/index-1.js"
    assert status(AUTH.check_http("GET", path, [HOST], is_ui_file=True)) == 200
    assert status(AUTH.check_http("GET", path, [HOST], is_ui_file=False)) == 401
    assert status(AUTH.check_http("POST", path, [HOST], is_ui_file=True)) == 401


def test_the_principal_says_how_it_was_proved() -> None:
    assert AUTH.check_http("GET", "/api/me", [HOST, bearer(ADMIN)]) == Allowed(Principal.ADMIN)
    assert AUTH.check_http("GET", "/api/me", [HOST, LOGIN]) == Allowed(Principal.LOGIN)
    assert AUTH.check_http("GET", "/api/me", [HOST]) == Allowed(Principal.NOBODY)
    assert NO_LOGIN.check_http("GET", "/api/me", [HOST]) == Allowed(Principal.ANYONE)


# --- tokens ------------------------------------------------------------------------------------------------


def test_the_runner_token_opens_the_link_and_nothing_else() -> None:
    assert AUTH.check_upgrade("/ws/runner", [HOST, bearer(RUNNER)]) == Allowed(Principal.RUNNER)
    assert upgrade(bearer(RUNNER)) == 401
    assert upgrade(bearer(RUNNER), path="/ws/runner/") == 401
    assert http(bearer(RUNNER)) == 401
    assert http(bearer(RUNNER), path="/metrics") == 401
    assert status(NO_LOGIN.check_http("GET", "/api/sessions", [HOST, bearer(RUNNER)])) == 401


@pytest.mark.parametrize("headers", [(), (bearer(ADMIN),), (LOGIN, ORIGIN), (bearer(""),)])
def test_nothing_but_the_runner_token_opens_the_link(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    for auth in (AUTH, NO_LOGIN, make(runner_token="")):
        assert status(auth.check_upgrade("/ws/runner", [HOST, *headers])) == 401


@pytest.mark.parametrize("unset", [None, ""])
@pytest.mark.parametrize("value", [b"Bearer", b"Bearer ", b"Bearer  ", b"bearer \t", b"", b" "])
def test_an_empty_token_is_no_token(unset: str | None, value: bytes) -> None:
    auth = make(admin_token=unset, runner_token="")
    headers = [HOST, (b"authorization", value)]
    assert status(auth.check_http("GET", "/api/sessions", headers)) == 401
    assert status(auth.check_upgrade("/ws/runner", headers)) == 401
    assert not auth.is_admin_token("")


@pytest.mark.parametrize("value", [b"Bearer %s", b"bearer %s", b"BEARER  %s ", b"\tBearer %s\t"])
def test_the_scheme_is_case_insensitive_and_padding_is_ignored(value: bytes) -> None:
    assert http((b"authorization", value % ADMIN.encode())) == 200


@pytest.mark.parametrize(
    "value", [ADMIN, f"Bearer{ADMIN}", f"Token {ADMIN}", f"Bearer {ADMIN}x", f"Bearer {ADMIN[:-1]}", "Bearer"]
)
def test_anything_but_the_exact_token_is_refused(value: str) -> None:
    assert http((b"authorization", value.encode())) == 401


@UNTIMED
@given(token=st.binary(max_size=60), path=st.sampled_from(["/api/sessions", "/ws/runner", "/ws/session/x"]))
def test_no_other_token_opens_anything(token: bytes, path: str) -> None:
    if token.strip(b" \t") not in (ADMIN.encode(), RUNNER.encode()):
        headers = [HOST, (b"authorization", b"Bearer " + token)]
        assert status(AUTH.check_http("GET", path, headers)) == 401
        assert status(AUTH.check_upgrade(path, headers)) == 401


def test_two_authorization_headers_are_refused_everywhere() -> None:
    both = (bearer(ADMIN), bearer(ADMIN))
    assert http(*both) == 401
    assert http(*both, path="/health") == 401
    assert upgrade(*both) == 401
    assert upgrade(bearer(RUNNER), bearer(RUNNER), path="/ws/runner") == 401


def test_a_wrong_token_is_not_saved_by_a_cookie_or_by_no_login() -> None:
    assert http(bearer("wrong"), LOGIN, ORIGIN) == 401
    assert status(NO_LOGIN.check_http("GET", "/api/sessions", [HOST, bearer("wrong")])) == 401


def test_the_authorization_of_a_proxy_does_not_get_in_the_way_of_a_cookie() -> None:
    assert http((b"authorization", b"Basic dTpw"), LOGIN) == 200


@pytest.mark.parametrize("token", ["", "wrong", RUNNER, "\ud800", "é"])
def test_only_the_admin_token_is_the_admin_token(token: str) -> None:
    assert not AUTH.is_admin_token(token)
    assert AUTH.is_admin_token(ADMIN)


# --- cookie and Origin -------------------------------------------------------------------------------------

FOREIGN = [
    (),
    ((b"origin", b"http://evil.example"),),
    ((b"origin", b"null"),),
    ((b"origin", b""),),
    ((b"origin", b"http://localhost:3000"),),
    ((b"origin", b"http://localhost"),),
    ((b"origin", b"https://localhost:8080"),),
    ((b"origin", b"http://127.0.0.1:8080"),),
    ((b"origin", b"http://localhost:8080/"),),
    ((b"origin", b"http://localhost:8080.evil.example"),),
    ((b"origin", b"http://user@localhost:8080"),),
    ((b"origin", b"http://relay.example.com"),),
    ((b"origin", b"https://relay.example.com.evil.example"),),
    ((b"origin", b"https://relay.example.com:444"),),
    (ORIGIN, ORIGIN),
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_cookie_with_a_missing_or_foreign_origin_changes_nothing(origin: Headers) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "X"):
        assert http(LOGIN, *origin, method=method) == 403
    assert upgrade(LOGIN, *origin) == 403
    assert http(LOGIN, *origin, method="POST", path="/api/logout") == 403


@pytest.mark.parametrize("origin", FOREIGN[1:])
def test_a_foreign_origin_is_refused_whatever_else_there_is(origin: Headers) -> None:
    assert http(*origin, method="POST") == 403
    assert upgrade(*origin) == 403
    assert http(*origin) == 401


@pytest.mark.parametrize("origin", FOREIGN[1:])
def test_without_login_a_foreign_origin_is_refused_all_the_same(origin: Headers) -> None:
    assert status(NO_LOGIN.check_http("POST", "/api/sessions", [HOST, *origin])) == 403
    assert status(NO_LOGIN.check_upgrade("/ws/session/x", [HOST, *origin])) == 403
    assert status(AUTH.check_http("POST", "/api/login", [HOST, *origin])) == 403


def test_without_login_a_program_needs_no_origin() -> None:
    assert status(NO_LOGIN.check_http("POST", "/api/sessions", [HOST])) == 200
    assert NO_LOGIN.check_upgrade("/ws/session/x", [HOST]) == Allowed(Principal.ANYONE)


def test_logging_in_again_with_a_cookie_needs_no_origin_but_no_foreign_one() -> None:
    assert http(LOGIN, method="POST", path="/api/login") == 200
    assert http(LOGIN, (b"origin", b"http://evil.example"), method="POST", path="/api/login") == 403


def test_reading_with_a_cookie_needs_no_origin() -> None:
    assert http(LOGIN) == 200


def test_a_bearer_needs_no_origin() -> None:
    assert http(bearer(ADMIN), method="DELETE") == 200
    assert upgrade(bearer(ADMIN)) == 200
    foreign = (b"origin", b"http://anything.example")
    assert upgrade(bearer(ADMIN), foreign) == 200
    assert http(bearer(ADMIN), foreign, method="POST") == 200
    assert upgrade(bearer("wrong"), foreign) == 401
    assert http(bearer("wrong"), foreign, method="POST") == 401


@pytest.mark.parametrize("host", [b"localhost:8080", b"127.0.0.1:1", b"[::1]:9", b"LOCALHOST"])
def test_on_loopback_the_origin_is_the_scheme_and_the_host(host: bytes) -> None:
    headers = [(b"host", host), LOGIN, (b"origin", b"http://" + host.lower())]
    assert status(AUTH.check_http("POST", "/api/sessions", headers)) == 200
    assert status(AUTH.check_upgrade("/ws/session/x", headers)) == 200
    assert status(AUTH.check_upgrade("/ws/session/x", headers, scheme="https")) == 403


def test_a_public_origin_is_accepted_also_where_a_proxy_changes_the_host() -> None:
    origin = (b"origin", PUBLIC.encode())
    for host in (b"relay.example.com", b"localhost:8080"):
        assert status(AUTH.check_upgrade("/ws/session/x", [(b"host", host), LOGIN, origin])) == 200


def test_an_address_hq_was_told_to_listen_on_is_its_own() -> None:
    auth = make(own_hosts=("192.168.1.5",))
    headers = [(b"host", b"192.168.1.5:8080"), LOGIN, (b"origin", b"http://192.168.1.5:8080")]
    assert status(auth.check_upgrade("/ws/session/x", headers)) == 200
    assert status(AUTH.check_upgrade("/ws/session/x", headers)) == 403


@pytest.mark.parametrize(
    "cookie",
    [
        b"agentrelay_login=valid-cookie",
        b"a=b; agentrelay_login=valid-cookie; c=d",
        b"agentrelay_login=planted; agentrelay_login=valid-cookie",
        b"a=b;agentrelay_login=valid-cookie",
    ],
)
def test_the_login_is_found_among_other_cookies(cookie: bytes) -> None:
    assert http((b"cookie", cookie)) == 200
    assert http((b"cookie", b"x=y"), (b"cookie", cookie)) == 200


@pytest.mark.parametrize(
    "cookie",
    [
        b"agentrelay_login=",
        b"agentrelay_login",
        b"agentrelay_login=wrong",
        b"Agentrelay_login=valid-cookie",
        b"xagentrelay_login=valid-cookie",
        b"agentrelay_login=valid-cookie2",
        b"agentrelay_login=\xff\xfe",
        b"valid-cookie",
    ],
)
def test_any_other_cookie_is_no_login(cookie: bytes) -> None:
    assert http((b"cookie", cookie)) == 401
    assert upgrade((b"cookie", cookie), ORIGIN) == 401


def test_a_flood_of_cookies_is_not_tried_one_by_one() -> None:
    tried: list[str] = []

    def check_login(cookie: str) -> bool:
        tried.append(cookie)
        return False

    auth = make(check_login=check_login)
    flood = b"; ".join(b"agentrelay_login=%d" % n for n in range(2_000))
    assert status(auth.check_http("GET", "/api/sessions", [HOST, (b"cookie", flood)])) == 401
    assert len(tried) == 64


# --- Host --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:1",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:8080",
        "relay.example.com",
        "RELAY.example.com:8443",
    ],
)
def test_hq_answers_to_its_names_on_any_port(host: str) -> None:
    assert status(AUTH.check_http("GET", "/health", [(b"host", host.encode())])) == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "localhost.",
        "x.localhost",
        "127.0.0.2",
        "127.1",
        "::1",
        "[::1",
        "[::1]x",
        "[::2]",
        "[localhost]",
        "localhost:",
        "localhost:http",
        "localhost:808080",
        "localhost:8080:1",
        "localhost:-1",
        "localhost:\u0664",
        "user@localhost",
        "localhost/",
        " localhost",
        "localhost,evil.example",
        "relay.example.com.evil.example",
        "example.com",
    ],
)
def test_any_other_host_is_refused_everywhere(host: str) -> None:
    headers = [(b"host", host.encode()), bearer(ADMIN)]
    for method, path in OPEN + CLOSED:
        assert status(AUTH.check_http(method, path, headers)) == 403
    assert status(AUTH.check_upgrade("/ws/session/x", headers)) == 403
    runner = [(b"host", host.encode()), bearer(RUNNER)]
    assert status(AUTH.check_upgrade("/ws/runner", runner)) == 403
    assert status(NO_LOGIN.check_http("GET", "/", [(b"host", host.encode())])) == 403


@pytest.mark.parametrize("headers", [[], [HOST, HOST], [HOST, (b"host", b"evil.example")]])
def test_no_host_or_two_are_refused_everywhere(headers: list[tuple[bytes, bytes]]) -> None:
    assert status(AUTH.check_http("GET", "/health", headers)) == 400
    assert status(AUTH.check_upgrade("/ws/runner", [*headers, bearer(RUNNER)])) == 400


@UNTIMED
@given(st.text(max_size=30))
def test_a_host_name_is_always_found_or_refused(host: str) -> None:
    name = host_name(host)
    assert name is None or host.lower().startswith(name)


# --- arbitrary headers -------------------------------------------------------------------------------------

HEADER_NAMES = st.sampled_from([b"host", b"origin", b"cookie", b"authorization", b"x"])
HEADERS = st.lists(st.tuples(HEADER_NAMES, st.binary(max_size=40)), max_size=6)


@UNTIMED
@given(
    headers=HEADERS,
    path=st.one_of(st.text(max_size=20), st.sampled_from([path for _, path in CLOSED])),
    method=st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
)
def test_arbitrary_headers_give_an_answer_and_never_more_than_the_open_paths(
    headers: list[tuple[bytes, bytes]], path: str, method: str
) -> None:
    decision = AUTH.check_http(method, path, headers)
    if isinstance(decision, Refused):
        assert decision.status in (400, 401, 403)
    else:
        assert decision.principal is Principal.NOBODY
        assert (method, path) not in CLOSED
    assert isinstance(AUTH.check_upgrade(path, headers), Refused)


@UNTIMED
@given(st.binary(max_size=200))
def test_arbitrary_cookies_are_read_without_a_fault(value: bytes) -> None:
    assert len(login_cookies([(b"cookie", value)])) <= 8
