"""HQ, the runner and the keeper die; sessions do not."""

import asyncio
import os
import signal
from pathlib import Path

from tests.system.running import System, until
from tests.system.test_bytes import ECHO
from tests.system.test_ends import LAST_BYTES, LAST_WORDS, exists
from tests.system.viewing import attached, python, started, stream


async def test_sessions_are_known_again_while_their_runner_is_away(own_system: System) -> None:
    system = own_system
    system.start_hq()
    system.start_runner()
    async with started(system, python(ECHO, 15)) as viewer:
        await viewer.sees(b"ready")
        await viewer.echoes(b"01234")
        session_id, epoch, pid = viewer.session_id, viewer.epoch, viewer.pid
        ended_id = system.post_session("/bin/sh", "-c", "printf gone; exit 6")["session_id"]
        until("end", lambda: system.session(ended_id)["state"] == "ended")
        system.kill_runner()
        until("loss of the link", lambda: not system.online("r1"))
        system.kill_hq()
        assert await viewer.is_closed() == 1006

    system.start_hq()
    # What is asked right after the first 200 of /health, with no runner there:
    told = system.session(session_id)
    assert (told["epoch"], told["pid"], told["state"]) == (epoch, pid, "away")
    assert system.session(ended_id)["state"] in ("ended", "away")
    # The newest bytes, and how a session ended, may not have been on disk yet; then the runner has them.
    assert b"ready01234".startswith(system.output(session_id))
    async with (
        attached(system, session_id, from_=5, epoch=epoch) as again,
        attached(system, session_id, from_=10, epoch=epoch) as ahead,
    ):
        assert again.epoch == ahead.epoch == epoch
        await asyncio.to_thread(system.start_runner)
        await again.has(5)
        await again.echoes(b"abcdefghij")
        assert await again.ends() == (0, None)
        assert await ahead.ends() == (0, None)
    async with attached(system, ended_id) as late:
        assert await late.ends() == (6, None)
        assert late.output == b"gone"
    assert again.output == b"01234abcdefghij"
    assert ahead.output == b"abcdefghij"
    assert system.session(session_id)["pid"] == pid


async def test_what_happened_while_others_were_away_is_made_up_for(
    own_system: System, tmp_path: Path
) -> None:
    system = own_system
    system.start_hq()
    system.start_runner()
    go = tmp_path / "go"
    os.mkfifo(go)
    ending = system.post_session(*python(f"open({str(go)!r}).read()" + LAST_WORDS, "away", 7))
    unwanted = system.post_session("/bin/cat")
    exited_before = system.post_session(*python("input()"))
    quiet = system.post_session(*python(ECHO, 5))

    system.kill_hq()
    go.write_text("")  # it writes all of its output and exits, and only its runner is there
    until("exit", lambda: not exists(ending["pid"]))
    os.kill(exited_before["pid"], signal.SIGTERM)
    until("exit", lambda: not exists(exited_before["pid"]))
    system.kill_runner()
    system.start_hq()
    assert system.http.delete(f"/api/sessions/{unwanted['session_id']}").status_code == 202
    assert exists(unwanted["pid"])
    await asyncio.to_thread(system.start_runner)

    async with attached(system, ending["session_id"], from_=0) as viewer:
        assert await viewer.ends() == (7, None)
        assert viewer.output == stream("away", LAST_BYTES)
    async with attached(system, exited_before["session_id"]) as viewer:
        assert await viewer.ends() == (None, signal.SIGTERM)
    async with attached(system, unwanted["session_id"]) as viewer:
        await viewer.ends()
    until("end of what was not wanted", lambda: not exists(unwanted["pid"]), 1)
    async with attached(system, quiet["session_id"]) as viewer:
        await viewer.sees(b"ready")
        await viewer.echoes(b"01234")
        assert await viewer.ends() == (0, None)


async def test_sessions_go_on_without_their_keeper(own_system: System) -> None:
    system = own_system
    system.start_hq()
    system.start_runner()
    daemon = system.runners["r1"].pid
    async with started(system, python(ECHO, 10)) as viewer, started(system, ["/bin/cat"]) as other:
        await viewer.sees(b"ready")
        keeper = system.keeper_pid()
        os.kill(keeper, signal.SIGKILL)
        until("end of the keeper", lambda: not exists(keeper))
        await viewer.echoes(b"01234")

        async with started(system, python(ECHO, 5)) as new:
            await new.sees(b"ready")
            await new.echoes(b"56789")
            assert await new.ends() == (0, None)
        assert system.keeper_pid() != keeper
        assert system.runners["r1"].pid == daemon
        assert system.runners["r1"].poll() is None

        await viewer.echoes(b"56789")
        # Only the keeper that has died could have known how it ended.
        assert await viewer.ends() == (None, None)
        assert viewer.output == b"ready0123456789"
        assert system.http.delete(f"/api/sessions/{other.session_id}").status_code == 202
        await other.ends()
        until("end of cat", lambda: not exists(other.pid), 1)
