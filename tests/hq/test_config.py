from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrelay.errors import ConfigError
from agentrelay.hq.config import HqConfig, is_loopback, login_link

GOOD = "a-runner-token-of-enough-characters"
GOOD_ADMIN = "an-admin-token-of-enough-characters"
LOOPBACK = ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "::1", "[::1]"]
REACHABLE = ["0.0.0.0", "::", "192.168.1.5", "relay.example.com", "localhost.example.com", "fe80::1"]  # noqa: S104


def make(**settings: Any) -> HqConfig:
    return HqConfig.checked(**({"data_dir": Path("/nowhere")} | settings))


def test_without_settings_everything_works_on_loopback() -> None:
    config = make()
    assert (config.host, config.port) == ("127.0.0.1", 8080)
    assert (config.runner_token, config.admin_token) == ("dev-token", None)
    assert config.reached_from() is None
    assert config.url() == "http://127.0.0.1:8080"
    assert config.warnings() == []


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_loopback_short_tokens_and_no_login_are_fine(host: str) -> None:
    assert is_loopback(make(host=host, runner_token="r", admin_token="a", no_login=True).host)


@pytest.mark.parametrize("host", REACHABLE)
def test_where_others_can_reach_hq_real_tokens_are_demanded(host: str) -> None:
    with pytest.raises(ConfigError, match=r"dev-token.*set RUNNER_TOKEN.*python3 -c"):
        make(host=host)
    with pytest.raises(ConfigError, match="RUNNER_TOKEN needs at least 16 characters and has 15"):
        make(host=host, runner_token="x" * 15)
    with pytest.raises(ConfigError, match="AGENTRELAY_ADMIN_TOKEN needs at least 16 characters and has 3"):
        make(host=host, runner_token=GOOD, admin_token="abc")
    with pytest.raises(ConfigError, match="--no-login is for loopback only"):
        make(host=host, runner_token=GOOD, no_login=True)
    assert make(host=host, runner_token=GOOD, admin_token=GOOD_ADMIN).reached_from() is not None


def test_a_public_url_counts_as_being_reachable() -> None:
    with pytest.raises(ConfigError, match=r"published as https://relay\.example\.com.*dev-token"):
        make(public_urls=["https://relay.example.com"])
    with pytest.raises(ConfigError, match="--no-login is for loopback only"):
        make(public_urls=["https://relay.example.com"], runner_token=GOOD, no_login=True)
    assert make(public_urls=["http://localhost:9000"], no_login=True).no_login


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_token_is_no_token(empty: str | None) -> None:
    assert make(admin_token=empty).admin_token is None
    assert make(runner_token=empty).runner_token == "dev-token"
    with pytest.raises(ConfigError, match="dev-token"):
        make(host="192.168.1.5", runner_token=empty)


def test_one_token_for_both_is_refused() -> None:
    with pytest.raises(ConfigError, match="are the same"):
        make(runner_token=GOOD, admin_token=GOOD)
    with pytest.raises(ConfigError, match="are the same"):
        make(admin_token="dev-token")


@pytest.mark.parametrize("token", ["with space", "tab\t", "new\nline", "nul\0", "ünicode", "\ud800"])
@pytest.mark.parametrize("name", ["runner_token", "admin_token"])
def test_a_token_that_does_not_fit_a_header_is_refused(name: str, token: str) -> None:
    with pytest.raises(ConfigError, match="printable ASCII"):
        make(**{name: token})


def test_tokens_are_not_shown() -> None:
    shown = repr(make(runner_token=GOOD, admin_token=GOOD_ADMIN))
    assert GOOD not in shown
    assert GOOD_ADMIN not in shown


@pytest.mark.parametrize(
    ("given_url", "origin"),
    [
        ("https://relay.example.com", "https://relay.example.com"),
        ("https://Relay.Example.com/", "https://relay.example.com"),
        ("https://relay.example.com:443", "https://relay.example.com"),
        ("http://relay.example.com:80", "http://relay.example.com"),
        ("http://relay.example.com:443", "http://relay.example.com:443"),
        ("https://relay.example.com:8443", "https://relay.example.com:8443"),
        ("http://[fe80::1]:8080", "http://[fe80::1]:8080"),
        ("http://192.168.1.5:8080", "http://192.168.1.5:8080"),
        ("http://hq:8080", "http://hq:8080"),
    ],
)
def test_public_urls_become_origins_as_browsers_send_them(given_url: str, origin: str) -> None:
    assert make(public_urls=[given_url], runner_token=GOOD).public_urls == (origin,)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.example.com",
        "//relay.example.com",
        "ftp://relay.example.com",
        "https://",
        "https://*.example.com",
        "https://relay.example.com/path",
        "https://relay.example.com?x=1",
        "https://relay.example.com#x",
        "https://user@relay.example.com",
        "https://relay.example.com:99999",
        "https://relay.example.com:http",
        "https://[::1",
        "https://a b",
        "https://relay.example.com\x00",
    ],
)
def test_a_public_url_that_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="public URL is an origin such as"):
        make(public_urls=[url], runner_token=GOOD)


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=40))
def test_any_public_url_is_taken_or_refused(url: str) -> None:
    try:
        [origin] = make(public_urls=[url], runner_token=GOOD).public_urls
    except ConfigError:
        return
    assert make(public_urls=[origin], runner_token=GOOD).public_urls == (origin,)


@pytest.mark.parametrize("host", ["", " ", "a b", "http://localhost", "localhost:8080", "-x", "\x00", "a/b"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=r"--host \(HOST\)"):
        make(host=host, runner_token=GOOD)


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match="--port"):
        make(port=port)


@pytest.mark.parametrize(
    ("host", "own", "url"),
    [
        ("127.0.0.1", ("127.0.0.1",), "http://127.0.0.1:99"),
        ("localhost", ("localhost",), "http://localhost:99"),
        ("::1", ("[::1]",), "http://[::1]:99"),
        ("192.168.1.5", ("192.168.1.5",), "http://192.168.1.5:99"),
        ("Box.example", ("box.example",), "http://box.example:99"),
        ("0.0.0.0", (), "http://127.0.0.1:99"),  # noqa: S104
        ("::", (), "http://127.0.0.1:99"),
    ],
)
def test_the_address_to_open_follows_from_where_hq_listens(host: str, own: tuple[str], url: str) -> None:
    config = make(host=host, port=0, runner_token=GOOD)
    assert config.own_hosts() == own
    assert config.url(99) == url


def test_the_address_to_open_is_the_first_public_url() -> None:
    config = make(public_urls=["https://a.example", "https://b.example"], runner_token=GOOD)
    assert config.url(99) == "https://a.example"


def test_listening_everywhere_under_no_name_is_warned_of() -> None:
    [warning] = make(host="::", runner_token=GOOD).warnings()
    assert "--public-url" in warning
    assert make(host="::", runner_token=GOOD, public_urls=["http://hq:8080"]).warnings() == []


def test_a_login_link_keeps_its_token_from_servers() -> None:
    assert login_link("http://127.0.0.1:8080", "a/b_c-d") == "http://127.0.0.1:8080/#login=a%2Fb_c-d"


def test_the_data_directory_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert make(data_dir=Path("~/x")).data_dir == tmp_path / "x"
    assert make(data_dir=Path("y")).data_dir == tmp_path / "y"
