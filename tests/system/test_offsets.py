"""Every byte has an offset, and everyone goes on at theirs."""

from tests.system.running import System, until
from tests.system.test_bytes import ECHO, FLOOD
from tests.system.viewing import attached, python, started, stream


async def test_a_viewer_goes_on_where_it_was(system: System) -> None:
    async with started(system, python(ECHO, 15)) as first:
        await first.sees(b"ready")
        await first.echoes(b"0123456789")
        session_id, epoch = first.session_id, first.epoch
    async with attached(system, session_id, from_=7, epoch=epoch) as second:
        assert second.seen[0][1]["replay"] == {"kind": "log", "bytes": 8}
        await second.has(8)
        assert (second.start, bytes(second.output)) == (7, b"23456789")
        await second.echoes(b"abcde")
        assert await second.ends() == (0, None)
    assert second.output == b"23456789abcde"


async def test_an_offset_of_another_epoch_is_void(system: System) -> None:
    async with started(system, python(ECHO, 10)) as first:
        await first.sees(b"ready")
        await first.echoes(b"01234")
        async with attached(system, first.session_id, from_=7, epoch="of-another-life") as second:
            assert second.epoch == first.epoch
            await second.has(10)
            assert (second.start, bytes(second.output)) == (0, b"ready01234")
        await first.type(b"56789")
        await first.ends()


async def test_an_ended_session_gives_what_is_missing_and_its_end(system: System) -> None:
    session_id = system.post_session("/bin/sh", "-c", "printf 0123456789; exit 5")["session_id"]
    until("end", lambda: system.session(session_id)["state"] == "ended")
    for start in (0, 4, 10):
        async with attached(system, session_id, from_=start) as viewer:
            assert await viewer.ends() == (5, None)
        assert viewer.output == b"0123456789"[start:]
        assert viewer.offset == 10


async def test_an_offset_beyond_the_end_is_no_harm(system: System) -> None:
    session_id = system.post_session("/bin/sh", "-c", "printf 0123456789")["session_id"]
    until("end", lambda: system.session(session_id)["state"] == "ended")
    async with attached(system, session_id, from_=1_000) as viewer:
        assert await viewer.ends() == (0, None)
    assert viewer.output == b""
    for start in (10, 11, 1_000, 2**62):
        answer = system.http.get(f"/api/sessions/{session_id}/output?from={start}")
        assert (answer.status_code, answer.content) == (200, b"")
    for wrong in ("-1", "x", str(2**64), "1.5"):
        assert system.http.get(f"/api/sessions/{session_id}/output?from={wrong}").status_code == 422


async def test_output_is_read_in_pages_from_anywhere(system: System) -> None:
    n_bytes = 9_000_000
    whole = stream("pages", n_bytes)
    session_id = system.post_session(*python(FLOOD, n_bytes, "pages"))["session_id"]
    until("end", lambda: system.session(session_id)["state"] == "ended")
    assert len(system.http.get(f"/api/sessions/{session_id}/output").content) < n_bytes
    for start in (0, 1, 65_535, 4_194_304, 8_000_001, n_bytes - 1):
        assert system.output(session_id, start) == whole[start:]
