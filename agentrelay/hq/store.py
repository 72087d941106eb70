"""HQ's metadata on disk: sessions, runners and logins in one SQLite file, behind async methods.

One worker thread owns the one connection, so calls take effect in the order they are made and the event loop
never waits for the disk; rows that wait for it are written in one commit. A commit is synced
(`synchronous=FULL`): a session that HQ has forgotten is worse than a millisecond.

Of secrets only the SHA-256 is stored. They are 256 random bits, so a slow hash would protect nothing.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import msgspec
import sqlalchemy as sa

from agentrelay.errors import ConfigError, StoreFailed
from agentrelay.hq import schema
from agentrelay.hq.info import SessionState
from agentrelay.protocol.messages import Preset

LOGIN_LIFE_S = 30 * 24 * 3600
LOGIN_LINK_LIFE_S = 600
MAX_LOGINS = 1_000
"""A script that logs in again and again pushes out the oldest logins instead of filling the disk."""

RETRY_S = 5.0
"""How long after a disk has refused rows they are tried again."""

_SECRET_BYTES = 32
_T = TypeVar("_T")


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """Everything HQ must know of a session after a restart.

    `head_offset` and `base_offset` are what the output log held when they were last saved; the log itself is
    the authority.
    """

    session_id: str
    runner_id: str
    name: str
    command: list[str]
    rows: int
    cols: int
    state: SessionState
    created_at: float
    preset: str | None = None
    cwd: str | None = None
    epoch: str = ""
    pid: int | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    recording: bool = True
    head_offset: int = 0
    base_offset: int = 0


class RunnerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A runner as it last registered, so that it is known while it is away."""

    runner_id: str
    hostname: str
    os: str
    arch: str
    version: str
    last_seen_at: float | None = None
    presets: list[Preset] = []


class _Login(NamedTuple):
    cookie: str
    expires_at: float


def hash_secret(secret: str) -> bytes:
    """Give what is stored of a secret. Total: any `str` has one, also one that is no valid UTF-8."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Store:
    """The open database. Make one with `await Store.open(...)`, end it with `await close()`.

    Every async method may raise `StoreFailed` when the disk fails. A call that is cancelled still takes
    effect.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentrelay-store")
        self._engine: sa.Engine
        self._connection: sa.Connection
        # sha256 of the cookie -> expiry; the whole table, so that `check_login` needs no disk
        self._logins: dict[bytes, float] = {}
        # Rows that wait for the worker, by table and key; None: to be deleted. Many sessions change at once
        # when a runner comes or goes, and one commit for all of them costs little more than one for each.
        self._unwritten: dict[sa.Table, dict[str, dict[str, Any] | None]] = {}
        self._writing: asyncio.Future[None] | None = None
        self._lock = threading.Lock()  # of the two above, held for moments
        self._retry_timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, path: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """Open the database at `path`, creating it (mode 0600) or bringing it to the current schema.

        Args:
            path: the file; its directory exists.
            clock: gives unix seconds.

        Raises:
            ConfigError: the file is not a database, cannot be written, or a newer AgentRelay wrote it.
        """
        store = cls(path, clock)
        try:
            await store._run(store._open)
        except (OSError, StoreFailed, ConfigError) as error:
            store._worker.shutdown()
            if isinstance(error, ConfigError):
                raise
            why = _reason(error.__cause__ or error)
            raise ConfigError(
                f"cannot open the database {path}: {why}. If it is damaged, move it away: HQ begins anew, "
                "and what runs comes back with its runner"
            ) from error
        return store

    async def close(self) -> None:
        """Finish what was asked for and close the file. Nothing may be called after it."""
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            with contextlib.suppress(StoreFailed):
                await self._run(self._write_rows)
        await self._run(self._close)
        self._worker.shutdown()

    # --- sessions and runners -----------------------------------------------------------------------------

    async def load_sessions(self) -> list[SessionRow]:
        """Read every session, oldest first."""
        return await self._run(self._load_sessions)

    async def save_session(self, row: SessionRow) -> None:
        """Write a session, replacing what was stored of it."""
        await self._write(schema.sessions, row.session_id, _columns(row))

    async def delete_session(self, session_id: str) -> None:
        """Forget a session; does nothing where it is not stored."""
        await self._write(schema.sessions, session_id, None)

    async def load_endings(self) -> dict[str, str]:
        """Read which sessions are to be ended when their runner brings them back: runner by session id."""
        return await self._run(self._load_endings)

    async def save_ending(self, session_id: str, runner_id: str) -> None:
        """Remember that a session was deleted, until its runner is known not to hold it any more."""
        await self._write(schema.endings, session_id, {"session_id": session_id, "runner_id": runner_id})

    async def delete_ending(self, session_id: str) -> None:
        """Forget that a session was deleted; does nothing where it is not stored."""
        await self._write(schema.endings, session_id, None)

    async def load_runners(self) -> list[RunnerRow]:
        """Read every runner that ever registered."""
        return await self._run(self._load_runners)

    async def save_runner(self, row: RunnerRow) -> None:
        """Write a runner, replacing what was stored of it."""
        await self._write(schema.runners, row.runner_id, _columns(row))

    async def delete_runner(self, runner_id: str) -> None:
        """Forget a runner; does nothing where it is not stored."""
        await self._write(schema.runners, runner_id, None)

    # --- logins -------------------------------------------------------------------------------------------

    def check_login(self, cookie: str) -> bool:
        """Tell whether `cookie` is a login that has not expired. From memory: microseconds, any thread."""
        expires_at = self._logins.get(hash_secret(cookie))
        return expires_at is not None and self._clock() < expires_at

    async def create_login(self) -> str:
        """Make a login that lives `LOGIN_LIFE_S`; gives its cookie."""
        return await self._run(self._create_login)

    async def create_login_link(self) -> str:
        """Make a token that `redeem` takes once within `LOGIN_LINK_LIFE_S`, from any process."""
        return await self._run(self._create_login_link)

    async def redeem(self, token: str) -> str | None:
        """Turn the token of a login link into a login; gives its cookie, None for a wrong or used token."""
        return await self._run(lambda: self._redeem(hash_secret(token)))

    async def revoke(self, cookie: str) -> None:
        """End a login. It is refused from now on, also before the disk knows."""
        digest = hash_secret(cookie)
        self._logins.pop(digest, None)
        await self._run(lambda: self._revoke(digest))

    # --- on the worker thread -----------------------------------------------------------------------------

    async def _run(self, work: Callable[[], _T]) -> _T:
        # Shielded: cancelling the caller must not take back work that still waits in the queue.
        return await _told(asyncio.get_running_loop().run_in_executor(self._worker, work))

    async def _write(self, table: sa.Table, key: str, columns: dict[str, Any] | None) -> None:
        """Write a row, or delete it, with the next commit; of several writes until then the last counts."""
        with self._lock:
            self._unwritten.setdefault(table, {})[key] = columns
            writing = self._begin_writing()
        await _told(writing)

    def _begin_writing(self) -> asyncio.Future[None]:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().run_in_executor(self._worker, self._write_rows)
            self._writing.add_done_callback(self._written)
        return self._writing

    def _written(self, writing: asyncio.Future[None]) -> None:
        """See to what the disk did not take; who waits for it has been told."""
        if not writing.cancelled() and writing.exception() is not None and self._retry_timer is None:
            self._retry_timer = asyncio.get_running_loop().call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retry_timer = None
        with self._lock:
            if self._unwritten:
                self._begin_writing()

    def _write_rows(self) -> None:
        with self._lock:
            unwritten, self._unwritten = self._unwritten, {}
            self._writing = None
        try:
            with self._connection.begin():
                for table, rows in unwritten.items():
                    self._replace(table, rows)
        except sa.exc.OperationalError:
            # A full disk, say, which will have room again. What was asked for later counts.
            with self._lock:
                for table, rows in unwritten.items():
                    self._unwritten[table] = rows | self._unwritten.get(table, {})
            raise

    def _replace(self, table: sa.Table, rows: dict[str, dict[str, Any] | None]) -> None:
        key = next(iter(table.primary_key.columns))
        old = sa.delete(table).where(key == sa.bindparam("old_key"))
        self._connection.execute(old, [{"old_key": each} for each in rows])
        new = [columns for columns in rows.values() if columns is not None]
        if new:
            self._connection.execute(sa.insert(table), new)

    def _open(self) -> None:
        # SQLite gives its -wal and -shm files the mode of the main file.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._engine = schema.make_engine(self._path)
        try:
            self._connection = self._engine.connect()
            schema.upgrade(self._connection, self._path)
            with self._connection.begin():
                now = self._clock()
                self._prune(now)
                for digest, expires_at in self._connection.execute(sa.select(schema.logins)):
                    self._logins[digest] = expires_at
        except BaseException:
            self._engine.dispose()
            raise

    def _close(self) -> None:
        self._connection.close()
        self._engine.dispose()

    def _load_sessions(self) -> list[SessionRow]:
        table = schema.sessions
        with self._connection.begin():
            rows = self._connection.execute(sa.select(table).order_by(table.c.created_at)).mappings().all()
        return [msgspec.convert(_fields(row), SessionRow) for row in rows]

    def _load_endings(self) -> dict[str, str]:
        table = schema.endings
        with self._connection.begin():
            return {row.session_id: row.runner_id for row in self._connection.execute(sa.select(table))}

    def _load_runners(self) -> list[RunnerRow]:
        table = schema.runners
        with self._connection.begin():
            rows = self._connection.execute(sa.select(table).order_by(table.c.runner_id)).mappings().all()
        return [msgspec.convert(_fields(row), RunnerRow) for row in rows]

    def _prune(self, now: float) -> None:
        for table in (schema.logins, schema.login_links):
            self._connection.execute(sa.delete(table).where(table.c.expires_at <= now))
        for digest, expires_at in list(self._logins.items()):
            if expires_at <= now:
                self._logins.pop(digest, None)

    def _create_login_link(self) -> str:
        token = secrets.token_urlsafe(_SECRET_BYTES)
        now = self._clock()
        with self._connection.begin():
            self._prune(now)
            self._connection.execute(
                sa.insert(schema.login_links).values(
                    token_sha256=hash_secret(token), expires_at=now + LOGIN_LINK_LIFE_S
                )
            )
        return token

    def _create_login(self) -> str:
        login = _Login(secrets.token_urlsafe(_SECRET_BYTES), self._clock() + LOGIN_LIFE_S)
        with self._connection.begin():
            ended = self._insert_login(login)
        return self._remember(login, ended)

    def _redeem(self, link_sha256: bytes) -> str | None:
        links = schema.login_links
        now = self._clock()
        login = _Login(secrets.token_urlsafe(_SECRET_BYTES), now + LOGIN_LIFE_S)
        with self._connection.begin():
            used = self._connection.execute(
                sa.delete(links).where(links.c.token_sha256 == link_sha256, links.c.expires_at > now)
            )
            if used.rowcount != 1:
                return None
            ended = self._insert_login(login)
        return self._remember(login, ended)

    def _insert_login(self, login: _Login) -> list[bytes]:
        """Insert within the caller's transaction; gives the logins that had to make room."""
        table = schema.logins
        newest = sa.select(table.c.cookie_sha256).order_by(table.c.expires_at.desc()).limit(MAX_LOGINS - 1)
        ended = self._connection.execute(
            sa.delete(table).where(table.c.cookie_sha256.not_in(newest)).returning(table.c.cookie_sha256)
        )
        digests = list(ended.scalars())
        self._connection.execute(
            sa.insert(table).values(cookie_sha256=hash_secret(login.cookie), expires_at=login.expires_at)
        )
        return digests

    def _remember(self, login: _Login, ended: list[bytes]) -> str:
        # After the commit, and on this thread rather than in the caller, who may be cancelled meanwhile.
        for digest in ended:
            self._logins.pop(digest, None)
        self._logins[hash_secret(login.cookie)] = login.expires_at
        return login.cookie

    def _revoke(self, digest: bytes) -> None:
        table = schema.logins
        with self._connection.begin():
            self._connection.execute(sa.delete(table).where(table.c.cookie_sha256 == digest))
        self._logins.pop(digest, None)


async def _told(work: asyncio.Future[_T]) -> _T:
    """Wait for the worker.

    Raises:
        StoreFailed: what it tells.
    """
    try:
        return await asyncio.shield(work)
    except sa.exc.SQLAlchemyError as error:
        raise StoreFailed(f"HQ cannot use its database now: {_reason(error)}") from error


def _reason(error: BaseException) -> object:
    return error.orig if isinstance(error, sa.exc.DBAPIError) else error


_JSON_COLUMNS = ("command", "presets")


def _columns(row: SessionRow | RunnerRow) -> dict[str, Any]:
    return {
        name: json.dumps(msgspec.to_builtins(value)) if name in _JSON_COLUMNS else value
        for name, value in msgspec.structs.asdict(row).items()
    }


def _fields(columns: sa.RowMapping) -> dict[str, Any]:
    # SQLAlchemy's names are a subclass of str, which msgspec does not take for a key.
    return {
        str(name): json.loads(value) if name in _JSON_COLUMNS else value for name, value in columns.items()
    }
