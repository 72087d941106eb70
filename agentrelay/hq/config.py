"""What HQ is started with: checked once, frozen after.

The default is closed. On loopback everything works without a word of configuration; whatever makes HQ
reachable by others, a bind address or a public URL, also demands real tokens.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

from agentrelay.errors import ConfigError

DEV_CREDENTIAL = "dev-token"
"""The runner token of an HQ that was given none. Everybody knows it, so it is refused outside loopback."""

MIN_TOKEN_CHARS = 16
"""Shortest token that is taken where others can reach HQ; the suggested ones have 43."""

_HOW_TO = 'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
_TOKEN = re.compile(r"[\x21-\x7e]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class HqConfig:
    """The settings of one HQ. Make one with `checked`, which refuses what would be unsafe.

    Attributes:
        host: address or name to listen on.
        port: TCP port, 0 for any free one.
        data_dir: where the database and the output logs live.
        runner_token: opens `/ws/runner`.
        admin_token: opens everything else as a bearer; None: there is none.
        no_login: whoever reaches HQ may use it.
        record_input: output logs hold what is typed, too.
        public_urls: origins, such as `https://relay.example.com`, under which browsers and runners reach HQ.
    """

    host: str
    port: int
    data_dir: Path
    runner_token: str = field(repr=False)
    admin_token: str | None = field(repr=False)
    no_login: bool
    record_input: bool
    public_urls: tuple[str, ...]

    @classmethod
    def checked(
        cls,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        data_dir: Path,
        runner_token: str | None = None,
        admin_token: str | None = None,
        no_login: bool = False,
        record_input: bool = False,
        public_urls: Iterable[str] = (),
    ) -> Self:
        """Check settings and fill in the defaults; an empty token is no token.

        Raises:
            ConfigError: a setting is malformed, or unsafe for where HQ can be reached from.
        """
        if not 0 <= port <= 65535:
            raise ConfigError(f"--port is 0 to 65535, not {port}")
        host = _checked_host(host)
        config = cls(
            host=host,
            port=port,
            data_dir=data_dir.expanduser().absolute(),
            runner_token=runner_token or DEV_CREDENTIAL,
            admin_token=admin_token or None,
            no_login=no_login,
            record_input=record_input,
            public_urls=tuple(dict.fromkeys(_checked_origin(url) for url in public_urls)),
        )
        config._check_tokens()
        return config

    def reached_from(self) -> str | None:
        """Say what makes HQ reachable from other machines, as a phrase for people; None: nothing does."""
        if not is_loopback(self.host):
            return f"HQ listens on {self.host} (--host, HOST)"
        for url in self.public_urls:
            if not is_loopback(urlsplit(url).hostname or ""):
                return f"HQ is published as {url} (--public-url, AGENTRELAY_PUBLIC_URL)"
        return None

    def own_hosts(self) -> tuple[str, ...]:
        """Give the names and addresses `Host` may carry because HQ was told to listen exactly there."""
        return () if self._listens_everywhere() else (_bracketed(self.host),)

    def url(self, port: int | None = None) -> str:
        """Give the address to open in a browser: the first public URL, else where HQ listens.

        Args:
            port: the port really listened on; needed where `port` is 0.
        """
        if self.public_urls:
            return self.public_urls[0]
        host = "127.0.0.1" if self._listens_everywhere() else _bracketed(self.host)
        return f"http://{host}:{self.port if port is None else port}"

    def warnings(self) -> list[str]:
        """Give sentences about settings that are safe but perhaps not what was meant."""
        warnings = []
        if self.record_input:
            warnings.append(
                "what is typed is recorded, passwords too (--record-input, AGENTRELAY_RECORD_INPUT)"
            )
        if self._listens_everywhere() and not self.public_urls:
            warnings.append(
                f"HQ listens on every address ({self.host}) but answers to the names localhost, 127.0.0.1 "
                "and [::1] only; add the others with --public-url (AGENTRELAY_PUBLIC_URL), such as "
                "--public-url http://192.168.1.5:8080"
            )
        return warnings

    def _listens_everywhere(self) -> bool:
        address = _address(self.host)
        return address is not None and address.is_unspecified

    def _check_tokens(self) -> None:
        for name, token in (("--runner-token", self.runner_token), ("--admin-token", self.admin_token)):
            if token is not None and not _TOKEN.fullmatch(token):
                raise ConfigError(f"{name} may hold printable ASCII without spaces only; {_HOW_TO}")
        if self.admin_token == self.runner_token:
            raise ConfigError(
                "--admin-token (AGENTRELAY_ADMIN_TOKEN) and --runner-token (RUNNER_TOKEN) are the same, and "
                f"neither may open what the other does; {_HOW_TO}"
            )
        reached = self.reached_from()
        if reached is None:
            return
        if self.no_login:
            raise ConfigError(f"--no-login is for loopback only, and {reached}")
        if self.runner_token == DEV_CREDENTIAL:
            raise ConfigError(
                f"{reached}, so the runner token {DEV_CREDENTIAL}, which everybody knows, will not do: "
                f"set RUNNER_TOKEN here and for the runners; {_HOW_TO}"
            )
        tokens = (("RUNNER_TOKEN", self.runner_token), ("AGENTRELAY_ADMIN_TOKEN", self.admin_token))
        for name, token in tokens:
            if token is not None and len(token) < MIN_TOKEN_CHARS:
                raise ConfigError(
                    f"{reached}, so {name} needs at least {MIN_TOKEN_CHARS} characters and has {len(token)}; "
                    f"{_HOW_TO}"
                )


def login_link(url: str, token: str) -> str:
    """Give the address that logs a browser in once. The token is behind `#`, so that no server logs it."""
    return f"{url}/#login={quote(token, safe='')}"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach what listens on `host`."""
    address = _address(host)
    return address.is_loopback if address is not None else host.lower() == "localhost"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()


def _checked_host(host: str) -> str:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    address = _address(bare)
    if address is not None:
        return str(address)
    if not _HOST_NAME.fullmatch(bare):
        raise ConfigError(f"--host (HOST) is an address or a name to listen on, not {host!r}")
    return bare


def _checked_origin(url: str) -> str:
    """Give the origin of a public URL in the form browsers send it."""
    example = "a public URL is an origin such as https://relay.example.com"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"{example}, not {url!r}") from None
    name = parts.hostname or ""
    if parts.scheme not in _DEFAULT_PORTS or not (_address(name) or _HOST_NAME.fullmatch(name)):
        raise ConfigError(f"{example}, not {url!r}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"{example}, without a path, a query or a user, not {url!r}")
    suffix = "" if port is None or port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{_bracketed(name)}{suffix}"
