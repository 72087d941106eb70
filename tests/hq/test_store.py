import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from agentrelay.errors import ConfigError, StoreFailed
from agentrelay.hq import schema
from agentrelay.hq import store as store_module
from agentrelay.hq.store import LOGIN_LIFE_S, LOGIN_LINK_LIFE_S, RunnerRow, SessionRow, Store, hash_secret
from agentrelay.protocol.messages import Preset


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hq.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[Store]:
    opened = await Store.open(path, clock=clock)
    yield opened
    await opened.close()


def content(path: Path) -> bytes:
    return path.read_bytes()


def overwrite(path: Path) -> None:
    path.write_bytes(b"not a database, for sure" * 100)


FULL = SessionRow(
    session_id="0123",
    runner_id="box",
    name="fix the tests",
    command=["claude", "--say", 'ein "Wort" ✓'],
    preset="claude",
    cwd="/home/x/ü",
    rows=50,
    cols=132,
    epoch="e1",
    pid=4242,
    state="ended",
    created_at=1.5,
    ended_at=2.25,
    exit_code=3,
    signal=None,
    recording=False,
    head_offset=2**62,
    base_offset=2**61,
)
MINIMAL = SessionRow(
    session_id="ff", runner_id="box", name="", command=[], rows=24, cols=80, state="starting", created_at=0.5
)


async def test_sessions_survive_a_restart_with_every_field(path: Path) -> None:
    first = await Store.open(path)
    await first.save_session(FULL)
    await first.save_session(MINIMAL)
    await first.close()
    second = await Store.open(path)
    assert await second.load_sessions() == [MINIMAL, FULL]  # oldest first
    await second.close()


async def test_a_session_that_was_saved_survives_a_kill(path: Path, store: Store) -> None:
    await store.save_session(FULL)
    other = await Store.open(path)  # the first one was never closed
    assert await other.load_sessions() == [FULL]
    await other.close()


async def test_saving_a_session_again_replaces_it(store: Store) -> None:
    await store.save_session(FULL)
    changed = msgspec.structs.replace(FULL, name="other", command=["bash"])
    await store.save_session(changed)
    assert await store.load_sessions() == [changed]


async def test_a_deleted_session_is_gone(store: Store) -> None:
    await store.save_session(FULL)
    await store.save_session(MINIMAL)
    await store.delete_session(FULL.session_id)
    await store.delete_session("unknown")
    assert await store.load_sessions() == [MINIMAL]


async def test_runners_are_known_again(path: Path) -> None:
    first = await Store.open(path)
    row = RunnerRow(
        runner_id="box",
        hostname="box.local",
        os="linux",
        arch="x86_64",
        version="0.1.0",
        last_seen_at=4.5,
        presets=[Preset(name="claude", label="Claude Code", path="/bin/claude", note="n")],
    )
    await first.save_runner(msgspec.structs.replace(row, version="0.0.9"))
    await first.save_runner(row)
    await first.save_runner(msgspec.structs.replace(row, runner_id="gone"))
    await first.delete_runner("gone")
    await first.close()
    second = await Store.open(path)
    assert await second.load_runners() == [row]
    await second.close()


async def test_the_last_of_many_calls_counts(store: Store) -> None:
    rows = [msgspec.structs.replace(MINIMAL, head_offset=n) for n in range(50)]
    await asyncio.gather(*(store.save_session(row) for row in rows))
    assert await store.load_sessions() == [rows[-1]]
    await asyncio.gather(store.save_session(FULL), store.delete_session("ff"), store.delete_session("0123"))
    assert await store.load_sessions() == []
    await asyncio.gather(store.delete_session("ff"), store.save_session(MINIMAL))
    assert await store.load_sessions() == [MINIMAL]


async def test_what_was_written_is_read_without_waiting_for_the_write(store: Store) -> None:
    saving = asyncio.ensure_future(store.save_session(FULL))
    await asyncio.sleep(0)
    assert await store.load_sessions() == [FULL]
    await saving


async def test_many_rows_are_written_in_few_commits(store: Store) -> None:
    commits: list[object] = []
    sa.event.listen(store._engine, "commit", commits.append)
    rows = [msgspec.structs.replace(MINIMAL, session_id=f"{n:03}", created_at=n) for n in range(300)]
    runner = RunnerRow(runner_id="box", hostname="", os="", arch="", version="")
    await asyncio.gather(*(store.save_session(row) for row in rows), store.save_runner(runner))
    assert len(commits) <= 2
    assert await store.load_sessions() == rows
    assert await store.load_runners() == [runner]


async def test_a_full_disk_is_told_and_costs_what_did_not_fit_only(store: Store) -> None:
    await store.save_session(MINIMAL)
    await limit_pages(store, 1)  # SQLite takes the size it has for the least
    with pytest.raises(StoreFailed, match="full"):
        await store.save_session(msgspec.structs.replace(FULL, command=["x" * 1_000_000]))
    await limit_pages(store, 1_000_000)
    await store.save_session(FULL)
    assert await store.load_sessions() == [MINIMAL, FULL]


async def limit_pages(store: Store, count: int) -> None:
    """Make the disk full for this database, or give it room again."""
    await store._run(lambda: store._connection.exec_driver_sql(f"PRAGMA max_page_count={count}").close())
    await store._run(store._connection.rollback)


LARGE = msgspec.structs.replace(FULL, command=["x" * 1_000_000])


async def test_what_a_full_disk_refused_is_written_when_there_is_room(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RETRY_S", 0.01)
    await store.save_session(MINIMAL)
    await limit_pages(store, 1)
    with pytest.raises(StoreFailed, match="full"):
        await store.save_session(LARGE)
    assert await store.load_sessions() == [MINIMAL]
    await limit_pages(store, 1_000_000)
    async with asyncio.timeout(20):
        while await store.load_sessions() != [MINIMAL, LARGE]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_what_a_full_disk_refused_is_written_at_the_end(path: Path) -> None:
    store = await Store.open(path)
    await limit_pages(store, 1)
    with pytest.raises(StoreFailed, match="full"):
        await store.save_session(LARGE)
    await limit_pages(store, 1_000_000)
    await store.close()
    store = await Store.open(path)
    assert await store.load_sessions() == [LARGE]
    await store.close()


async def test_a_write_that_fails_is_told_to_everyone_who_waits_and_the_next_one_works(store: Store) -> None:
    def broken(connection: sa.Connection) -> None:
        raise OSError("no space left on device")

    sa.event.listen(store._engine, "commit", broken)
    results = await asyncio.gather(
        store.save_session(FULL), store.save_session(MINIMAL), return_exceptions=True
    )
    assert [type(result) for result in results] == [OSError, OSError]
    sa.event.remove(store._engine, "commit", broken)
    await store.save_session(MINIMAL)
    assert await store.load_sessions() == [MINIMAL]


async def test_a_cancelled_call_still_takes_effect(store: Store) -> None:
    disk = threading.Event()
    blocked = asyncio.create_task(store._run(disk.wait))
    saving = asyncio.create_task(store.save_session(FULL))
    await asyncio.sleep(0)
    saving.cancel()
    disk.set()
    await blocked
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert await store.load_sessions() == [FULL]


async def test_the_event_loop_goes_on_while_another_process_holds_the_database(
    path: Path, store: Store
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    saving = asyncio.create_task(store.save_session(FULL))
    done, _ = await asyncio.wait([saving], timeout=0.05)
    assert not done
    other.execute("COMMIT")
    other.close()
    await saving
    assert await store.load_sessions() == [FULL]


# --- logins -----------------------------------------------------------------------------------------------


async def test_a_login_opens_until_it_expires(store: Store, clock: Clock) -> None:
    cookie = await store.create_login()
    assert store.check_login(cookie)
    clock.now += LOGIN_LIFE_S - 1
    assert store.check_login(cookie)
    clock.now += 1
    assert not store.check_login(cookie)


@pytest.mark.parametrize("cookie", ["", "x", "\x00", "\ud800", "a" * 100_000])
async def test_anything_else_is_no_login(store: Store, cookie: str) -> None:
    await store.create_login()
    assert not store.check_login(cookie)


async def test_logins_survive_a_restart_and_expired_ones_are_dropped(path: Path, clock: Clock) -> None:
    first = await Store.open(path, clock=clock)
    old = await first.create_login()
    clock.now += LOGIN_LIFE_S - 5
    fresh = await first.create_login()
    await first.close()
    clock.now += 10
    second = await Store.open(path, clock=clock)
    assert second.check_login(fresh)
    assert not second.check_login(old)
    await second.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT count(*) FROM logins").fetchone() == (1,)
    raw.close()


async def test_a_revoked_login_is_refused_at_once_and_after_a_restart(path: Path, clock: Clock) -> None:
    first = await Store.open(path, clock=clock)
    cookie, other = await first.create_login(), await first.create_login()
    revoking = asyncio.ensure_future(first.revoke(cookie))
    await asyncio.sleep(0)
    assert not first.check_login(cookie)
    await revoking
    await first.close()
    second = await Store.open(path, clock=clock)
    assert not second.check_login(cookie)
    assert second.check_login(other)
    await second.close()


async def test_revoking_takes_effect_also_when_nobody_waits_for_it(path: Path, clock: Clock) -> None:
    first = await Store.open(path, clock=clock)
    cookie = await first.create_login()
    disk = threading.Event()
    blocked = asyncio.create_task(first._run(disk.wait))
    revoking = asyncio.create_task(first.revoke(cookie))
    await asyncio.sleep(0)
    revoking.cancel()
    disk.set()
    await blocked
    await first.close()
    second = await Store.open(path, clock=clock)
    assert not second.check_login(cookie)
    await second.close()


async def test_a_login_link_works_once(store: Store) -> None:
    token = await store.create_login_link()
    cookie = await store.redeem(token)
    assert cookie is not None
    assert cookie != token
    assert store.check_login(cookie)
    assert not store.check_login(token)
    assert await store.redeem(token) is None


async def test_a_login_link_raced_for_gives_one_login(store: Store) -> None:
    token = await store.create_login_link()
    cookies = await asyncio.gather(*(store.redeem(token) for _ in range(8)))
    assert sum(cookie is not None for cookie in cookies) == 1


async def test_a_login_link_expires(store: Store, clock: Clock) -> None:
    token = await store.create_login_link()
    clock.now += LOGIN_LINK_LIFE_S
    assert await store.redeem(token) is None


@pytest.mark.parametrize("token", ["", "wrong", "\x00", "\ud800"])
async def test_a_wrong_login_link_gives_nothing(store: Store, token: str) -> None:
    await store.create_login_link()
    assert await store.redeem(token) is None


async def test_a_link_made_by_another_process_can_be_redeemed(path: Path, store: Store, clock: Clock) -> None:
    other = await Store.open(path, clock=clock)
    token = await other.create_login_link()
    await other.close()
    assert await store.redeem(token) is not None


async def test_the_oldest_logins_make_room(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_LOGINS", 3)
    cookies = []
    for _ in range(5):
        cookies.append(await store.create_login())
        clock.now += 1
    assert [store.check_login(cookie) for cookie in cookies] == [False, False, True, True, True]


async def test_no_secret_is_in_the_files(path: Path, store: Store) -> None:
    link = await store.create_login_link()
    cookie = await store.redeem(link)
    unused = await store.create_login_link()
    assert cookie is not None
    stored = b"".join(content(file) for file in path.parent.iterdir())
    for secret in (link, cookie, unused):
        assert secret.encode() not in stored
    assert hash_secret(cookie) in stored


# --- the file ---------------------------------------------------------------------------------------------


async def test_its_files_are_for_the_user_only(path: Path, store: Store) -> None:
    await store.save_session(FULL)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"hq.db": 0o600, "hq.db-wal": 0o600, "hq.db-shm": 0o600}


async def test_commits_are_synced(store: Store) -> None:
    pragmas = await store._run(
        lambda: [
            store._connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous")
        ]
    )
    assert pragmas == ["wal", 2]


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    overwrite(path)
    with pytest.raises(ConfigError, match=r"cannot open the database .*hq\.db"):
        await Store.open(path)


async def test_a_directory_that_is_missing_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot open the database"):
        await Store.open(path / "deeper")


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    await (await Store.open(path)).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE schema_version SET version = 99")
    raw.close()
    before = content(path)
    with pytest.raises(ConfigError, match="newer AgentRelay"):
        await Store.open(path)
    assert content(path) == before


async def test_a_file_of_the_first_version_becomes_one_of_this(path: Path, tmp_path: Path) -> None:
    first = await Store.open(path)
    await first.save_session(FULL)
    await first.close()
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DROP TABLE endings")
        raw.execute("UPDATE schema_version SET version = 1")

    store, new = await Store.open(path), await Store.open(tmp_path / "new.db")
    assert await store.load_sessions() == [FULL]
    assert await store.load_endings() == {}
    await store.close()
    await new.close()
    assert _columns_of(path) == _columns_of(tmp_path / "new.db")


def _columns_of(path: Path) -> dict[str, list[object]]:
    with contextlib.closing(sqlite3.connect(path)) as raw:
        tables = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: raw.execute(f"PRAGMA table_info({name})").fetchall() for name in tables}


async def test_what_is_to_be_ended_is_remembered_until_it_is_forgotten(path: Path) -> None:
    store = await Store.open(path)
    await store.save_ending("s1", "box")
    await store.save_ending("s2", "box")
    await store.delete_ending("s2")
    await store.close()

    store = await Store.open(path)
    assert await store.load_endings() == {"s1": "box"}
    await store.close()


async def test_an_older_file_is_migrated_once_and_keeps_its_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await Store.open(path)
    await first.save_session(FULL)
    await first.close()

    released = schema.current_version()

    def add_note(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE runners ADD COLUMN note TEXT")

    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, add_note))
    for _ in range(2):
        migrated = await Store.open(path)
        assert await migrated.load_sessions() == [FULL]
        await migrated.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT version FROM schema_version").fetchone() == (released + 1,)
        assert "note" in [column[1] for column in raw.execute("PRAGMA table_info(runners)")]
    raw.close()


async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await Store.open(path)).close()

    released = schema.current_version()

    def half_way(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE runners ADD COLUMN note TEXT")
        connection.exec_driver_sql("ALTER TABLE no_such_table ADD COLUMN note TEXT")

    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, half_way))
    with pytest.raises(ConfigError, match="cannot open"):
        await Store.open(path)
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT version FROM schema_version").fetchone() == (released,)
        assert "note" not in [column[1] for column in raw.execute("PRAGMA table_info(runners)")]
    raw.close()


async def test_two_processes_may_create_it_at_once(path: Path) -> None:
    stores = await asyncio.gather(*(Store.open(path) for _ in range(4)))
    await stores[0].save_session(FULL)
    assert await stores[3].load_sessions() == [FULL]
    for store in stores:
        await store.close()


async def test_close_leaves_no_descriptor_open(path: Path) -> None:
    def count() -> int:
        return sum(
            1
            for fd in Path("/proc/self/fd").iterdir()
            if os.path.lexists(fd) and os.readlink(fd).startswith(str(path))
        )

    opened = await Store.open(path)
    assert count() > 0
    await opened.close()
    assert count() == 0
