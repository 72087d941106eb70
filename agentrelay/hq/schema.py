"""The tables of HQ's database and how an older file becomes the current one.

A new file is created whole at `VERSION`; an older one is taken through `MIGRATIONS` step by step, in one
transaction. There is no way back: a file of a newer version is refused.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from agentrelay.errors import ConfigError

_LOCKED_S = 10.0
"""How long to wait for a write of another process, which takes milliseconds."""

metadata = sa.MetaData()

versions = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, primary_key=True))

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("runner_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("command", sa.Text, nullable=False),  # JSON: [string]
    sa.Column("preset", sa.Text),
    sa.Column("cwd", sa.Text),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("cols", sa.Integer, nullable=False),
    sa.Column("epoch", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("exit_code", sa.Integer),
    sa.Column("signal", sa.Integer),
    sa.Column("recording", sa.Boolean, nullable=False),
    sa.Column("head_offset", sa.BigInteger, nullable=False),
    sa.Column("base_offset", sa.BigInteger, nullable=False),
)

runners = sa.Table(
    "runners",
    metadata,
    sa.Column("runner_id", sa.Text, primary_key=True),
    sa.Column("hostname", sa.Text, nullable=False),
    sa.Column("os", sa.Text, nullable=False),
    sa.Column("arch", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("last_seen_at", sa.Float),
    sa.Column("presets", sa.Text, nullable=False),  # JSON: [Preset]
)

logins = sa.Table(
    "logins",
    metadata,
    sa.Column("cookie_sha256", sa.LargeBinary(32), primary_key=True),
    sa.Column("expires_at", sa.Float, nullable=False),
)

login_links = sa.Table(
    "login_links",
    metadata,
    sa.Column("token_sha256", sa.LargeBinary(32), primary_key=True),
    sa.Column("expires_at", sa.Float, nullable=False),
)

endings = sa.Table(
    "endings",
    metadata,
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("runner_id", sa.Text, nullable=False),
)


def _add_endings(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "CREATE TABLE endings (session_id TEXT NOT NULL PRIMARY KEY, runner_id TEXT NOT NULL)"
    )


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_add_endings,)
"""`MIGRATIONS[n]` takes a file of version n + 1 to version n + 2. Once released, one never changes."""


def current_version() -> int:
    """Give the version that `metadata` describes."""
    return len(MIGRATIONS) + 1


def make_engine(path: Path) -> sa.Engine:
    """Make an engine for the SQLite file at `path`: WAL, synced commits, transactions that begin at once.

    The caller uses one connection of it, from one thread.
    """
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        poolclass=sa.pool.StaticPool,
        connect_args={"timeout": _LOCKED_S},
    )

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # else sqlite3 begins transactions where it sees fit
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        raw: Any = connection.connection.dbapi_connection
        if raw.in_transaction:
            raw.rollback()  # left open by a commit that failed, such as on a full disk
        # Taking the write lock first lets a second process (`--login-link`) wait instead of failing half-way.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _switch_to_wal(connection: Any) -> None:
    # While another process does the same for a new file, SQLite says "locked" at once whatever the timeout.
    deadline = time.monotonic() + _LOCKED_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return


def upgrade(connection: sa.Connection, path: Path) -> None:
    """Bring an empty or older file to the current version.

    Raises:
        ConfigError: a newer AgentRelay wrote the file.
    """
    with connection.begin():
        current = current_version()
        if not sa.inspect(connection).has_table(versions.name):
            metadata.create_all(connection)
            connection.execute(sa.insert(versions).values(version=current))
            return
        version = connection.execute(sa.select(versions.c.version)).scalar_one()
        if version > current:
            raise ConfigError(
                f"{path} was written by a newer AgentRelay (schema {version}, this one knows {current}): "
                "upgrade, or choose another --data-dir"
            )
        for migrate in MIGRATIONS[version - 1 :]:
            migrate(connection)
        connection.execute(sa.update(versions).values(version=current))
