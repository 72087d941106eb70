import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

import agentrelay
from agentrelay.cli.hq import main
from agentrelay.errors import ConfigError
from agentrelay.hq.config import HqConfig
from agentrelay.hq.datadir import DataDir
from agentrelay.hq.store import Store

GOOD = "a-runner-token-of-enough-characters"
VARIABLES = [
    "AGENTRELAY_RECORD_INPUT",
    "HOST",
    "PORT",
    "AGENTRELAY_DATA_DIR",
    "RUNNER_TOKEN",
    "AGENTRELAY_ADMIN_TOKEN",
    "AGENTRELAY_PUBLIC_URL",
]


class FakeServer(ModuleType):
    """Stands in for agentrelay.hq.server and keeps what it is run with."""

    def __init__(self) -> None:
        super().__init__("agentrelay.hq.server")
        self.configs: list[HqConfig] = []
        self.umask = -1
        self.error: Exception | None = None

    def run(self, config: HqConfig) -> None:
        self.configs.append(config)
        self.umask = os.umask(0o077)
        if self.error is not None:
            raise self.error


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    fake = FakeServer()
    monkeypatch.setitem(sys.modules, "agentrelay.hq.server", fake)
    umask = os.umask(0o022)
    yield fake
    os.umask(umask)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def invoke(data_dir: Path | None, *args: str, **env: str) -> Result:
    cleared: dict[str, str | None] = dict.fromkeys(VARIABLES)
    if data_dir is not None:
        cleared["AGENTRELAY_DATA_DIR"] = str(data_dir)
    return CliRunner().invoke(main, args, env=cleared | env)


def test_without_arguments_it_runs_on_loopback(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert invoke(None).exit_code == 0
    [config] = server.configs
    assert (config.host, config.port, config.no_login) == ("127.0.0.1", 8080, False)
    assert not config.record_input
    assert (config.runner_token, config.admin_token, config.public_urls) == ("dev-token", None, ())
    assert config.data_dir == tmp_path / ".local/share/agentrelay"


def test_flags_and_variables_mean_the_same(server: FakeServer, data_dir: Path, tmp_path: Path) -> None:
    assert (
        invoke(
            data_dir,
            HOST="0.0.0.0",  # noqa: S104
            PORT="99",
            RUNNER_TOKEN=GOOD,
            AGENTRELAY_ADMIN_TOKEN="an-" + GOOD,
            AGENTRELAY_PUBLIC_URL=" https://a.example  http://hq:8080\n",
            AGENTRELAY_RECORD_INPUT="1",
        ).exit_code
        == 0
    )
    flags = ["--host", "0.0.0.0", "--port", "99", "--data-dir", str(data_dir), "--runner-token", GOOD]  # noqa: S104
    flags += ["--admin-token", "an-" + GOOD, "--public-url", "https://a.example"]
    flags += ["--public-url", "http://hq:8080", "--record-input"]
    assert invoke(None, *flags).exit_code == 0
    by_variable, by_flag = server.configs
    assert by_flag == by_variable
    assert by_flag.record_input
    assert by_flag.public_urls == ("https://a.example", "http://hq:8080")


def test_a_flag_beats_its_variable(server: FakeServer, data_dir: Path, tmp_path: Path) -> None:
    flags = ["--host", "::1", "--port", "1", "--data-dir", str(tmp_path / "flag"), "--runner-token", "r-flag"]
    flags += ["--admin-token", "a-flag", "--public-url", "http://localhost:1"]
    result = invoke(
        data_dir,
        *flags,
        HOST="127.0.0.1",
        PORT="2",
        RUNNER_TOKEN="r-variable",
        AGENTRELAY_ADMIN_TOKEN="a-variable",
        AGENTRELAY_PUBLIC_URL="http://localhost:2",
    )
    assert result.exit_code == 0
    [config] = server.configs
    assert (config.host, config.port, config.data_dir) == ("::1", 1, tmp_path / "flag")
    assert (config.runner_token, config.admin_token) == ("r-flag", "a-flag")
    assert config.public_urls == ("http://localhost:1",)


def test_an_empty_variable_is_one_that_is_not_set(server: FakeServer, data_dir: Path) -> None:
    empty = {name: "" for name in VARIABLES if name != "AGENTRELAY_DATA_DIR"}
    assert invoke(data_dir, **empty).exit_code == 0
    [config] = server.configs
    assert (config.runner_token, config.admin_token, config.public_urls) == ("dev-token", None, ())


@pytest.mark.parametrize("flag", ["--runner-token", "--admin-token", "--data-dir", "--host", "--public-url"])
def test_an_empty_flag_is_refused(server: FakeServer, data_dir: Path, flag: str) -> None:
    result = invoke(data_dir, flag, "")
    assert result.exit_code == 2
    assert flag in result.stderr or "public URL" in result.stderr
    assert server.configs == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--host", "0.0.0.0"], "set RUNNER_TOKEN"),  # noqa: S104
        (["--host", "0.0.0.0", "--runner-token", "short"], "at least 16 characters"),  # noqa: S104
        (["--host", "0.0.0.0", "--runner-token", GOOD, "--no-login"], "--no-login"),  # noqa: S104
        (["--admin-token", "dev-token"], "are the same"),
        (["--public-url", "relay.example.com"], "https://relay.example.com"),
        (["--port", "65536"], "--port is 0 to 65535"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    server: FakeServer, data_dir: Path, args: list[str], said: str
) -> None:
    result = invoke(data_dir, *args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("agentrelay-hq: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert server.configs == []


def test_what_the_server_finds_wrong_is_said_the_same_way(server: FakeServer, data_dir: Path) -> None:
    server.error = ConfigError("cannot listen on 127.0.0.1:1: Permission denied")
    result = invoke(data_dir)
    assert (result.exit_code, result.stderr) == (2, f"agentrelay-hq: {server.error}\n")


def test_what_hq_makes_is_for_its_user_only(server: FakeServer, data_dir: Path) -> None:
    assert invoke(data_dir).exit_code == 0
    assert server.umask == 0o077


def test_the_version_is_told() -> None:
    result = invoke(None, "--version")
    assert (result.exit_code, result.stdout) == (0, f"agentrelay-hq {agentrelay.__version__}\n")


def test_help_names_every_variable_and_prefers_them_for_tokens() -> None:
    text = " ".join(invoke(None, "--help").stdout.split())
    for variable in VARIABLES:
        assert variable in text
    assert text.count("prefer the variable") == 2


# --- --login-link ------------------------------------------------------------------------------------------


def redeem(data_dir: Path, token: str) -> str | None:
    async def use() -> str | None:
        store = await Store.open(data_dir / "hq.db")
        try:
            return await store.redeem(token)
        finally:
            await store.close()

    return asyncio.run(use())


def test_a_login_link_is_for_the_hq_that_runs(server: FakeServer, data_dir: Path) -> None:
    with DataDir.acquire(data_dir) as held:
        held.announce("http://127.0.0.1:4711")
        result = invoke(data_dir, "--login-link")
        assert (result.exit_code, result.stderr) == (0, "")
        url, _, token = result.stdout.strip().partition("#login=")
        assert url == "http://127.0.0.1:4711/"
        assert redeem(data_dir, token) is not None
        assert redeem(data_dir, token) is None
    assert server.configs == []


def test_a_login_link_without_an_hq_says_so(server: FakeServer, data_dir: Path) -> None:
    result = invoke(data_dir, "--login-link", PORT="99")
    assert result.exit_code == 0
    assert result.stdout.startswith("http://127.0.0.1:99/#login=")
    assert "no HQ uses --data-dir" in result.stderr
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert redeem(data_dir, result.stdout.strip().partition("#login=")[2]) is not None


def test_a_login_link_that_cannot_be_made_is_said_in_one_line(data_dir: Path) -> None:
    data_dir.write_text("a file")
    result = invoke(data_dir, "--login-link")
    assert result.exit_code == 2
    assert result.stderr.startswith("agentrelay-hq: cannot make --data-dir")
