"""Nobody stalls anybody: who types, pastes, floods or looks away costs nobody else a byte.

The short form is a test like any other. `make soak` has everybody type ten times as much, and
AGENTRELAY_SOAK_SEED repeats what is typed.
"""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from tests.system.running import System, resident_bytes, until
from tests.system.test_bytes import ECHO
from tests.system.test_programs import READ_LATER
from tests.system.viewing import Viewer, attached, python, sha, started, stream

SEED = int(os.environ.get("AGENTRELAY_SOAK_SEED") or random.randrange(10**6))

TYPISTS = 20
TYPED = int(os.environ.get("AGENTRELAY_SOAK_TYPED") or 500)
"""How often each of them types something."""

PASTE_BYTES = 1 << 20
PASTES = 3

WARM_ROUNDS = 4
ROUNDS = 20
ROUND_S = 0.5
BLOCK_BYTES = 2_000_000
GROWTH_BYTES = 2 << 20

WORDS = 10
WORD = b"<word>"

# A block of noise for every key.
BLOCKS = """
import hashlib, os, sys, tty
tty.setraw(0)
os.write(1, b"ready")
blocks, n = int(sys.argv[1]), int(sys.argv[2])
for block in range(blocks):
    os.read(0, 1)
    sys.stdout.buffer.write(hashlib.shake_256(b"%d" % block).digest(n))
    sys.stdout.buffer.flush()
os.read(0, 1)
"""

# Stops in the middle of its input; shows in the end what it got.
READ_IN_TWO = """
import os, signal, sys, tty
tty.setraw(0)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
first, n = int(sys.argv[1]), int(sys.argv[2])
os.write(1, b"ready")
data = b""
while len(data) < first:
    data += os.read(0, 4096)
os.write(1, b"half")
signal.sigwait([signal.SIGUSR1])
while len(data) < n:
    data += os.read(0, 4096)
sys.stdout.buffer.write(data)
"""

FLOOD_BYTES = 1_500_000

SHOWN_BYTES_PER_S = 1_000_000
"""A slow terminal."""

AFTER_CTRL_C_BYTES = 3 << 19
"""What may still come: the megabyte that a flood runs ahead of its viewer, and what is shown meanwhile."""


async def type_a_lot(system: System, number: int) -> None:
    """Type keys, lines and blocks, now ahead of their echo and now waiting for it; see that and no more."""
    rng = random.Random(f"{SEED} {number}")
    sizes = [rng.choice((1, 1, 1, 1, rng.randrange(2, 80), rng.randrange(80, 3000))) for _ in range(TYPED)]
    typed = stream(f"{SEED} {number}", sum(sizes))
    async with started(system, python(ECHO, len(typed)), runner=f"r{1 + number % 2}") as viewer:
        await viewer.sees(b"ready")
        done = 0
        for size in sizes:
            await viewer.type(typed[done : done + size])
            done += size
            if rng.random() < 0.5:
                await viewer.has(len(b"ready") + done)
        assert await viewer.ends() == (0, None)
    assert viewer.output == b"ready" + typed


async def everybody_types(system: System) -> None:
    print(f"\nAGENTRELAY_SOAK_SEED={SEED}")
    async with asyncio.TaskGroup() as tasks:
        for number in range(TYPISTS):
            tasks.create_task(type_a_lot(system, number))


async def is_taken(viewer: Viewer, n_bytes: int) -> None:
    """Wait until HQ has taken so many bytes of input from a viewer that has a name."""
    while (await viewer.hears("input_ack"))["offset"] < n_bytes:
        pass


def post_input(system: System, session_id: str, data: bytes) -> int:
    """Type through the API; gives the status."""
    raw = {"Content-Type": "application/octet-stream"}
    return system.http.post(f"/api/sessions/{session_id}/input", content=data, headers=raw).status_code


async def say_words(viewer: Viewer) -> None:
    for _ in range(WORDS):
        await viewer.echoes(WORD)


async def use_a_new_session(system: System) -> None:
    async with started(system, python(ECHO, len(WORD))) as viewer:
        await viewer.sees(b"ready")
        await viewer.echoes(WORD)
        assert await viewer.ends() == (0, None)


async def take_control(viewer: Viewer) -> None:
    await viewer.say("take_control")
    while not (await viewer.hears("control"))["you"]:
        pass


def held_bytes(pid: int) -> int:
    """Give the memory of a process less the rings: theirs is shared memory, bounded, and comes and goes."""
    return resident_bytes(pid) - resident_bytes(pid, "RssShmem")


def small_socket(system: System) -> socket.socket:
    """Give a connection to HQ whose kernel takes next to nothing on behalf of who does not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.connect(("127.0.0.1", system.port))
    connection.setblocking(False)
    return connection


async def test_twenty_sessions_typed_into_at_once_do_not_mix(system: System) -> None:
    await everybody_types(system)


async def test_pastes_that_nobody_reads_disturb_no_session_and_arrive_whole(system: System) -> None:
    async with AsyncExitStack() as stack:
        pasted: list[tuple[Viewer, bytes]] = []
        for number in range(PASTES):
            command = python(READ_LATER, PASTE_BYTES)
            viewer = await stack.enter_async_context(started(system, command, viewer="pastes"))
            paste = stream(f"paste {number}", PASTE_BYTES)
            await viewer.sees(b"ready")
            await viewer.type(paste)
            await is_taken(viewer, PASTE_BYTES)
            pasted.append((viewer, paste))
        await everybody_types(system)
        for viewer, paste in pasted:
            system.signal(viewer.session_id, "USR1")
            assert await viewer.ends() == (0, None)
            assert viewer.output == b"ready" + sha(paste).encode()


async def test_a_viewer_that_stops_reading_costs_nobody_anything(system: System) -> None:
    assert system.hq is not None
    hq_pid, loop = system.hq.pid, asyncio.get_running_loop()
    rounds = WARM_ROUNDS + ROUNDS
    async with (
        started(system, python(BLOCKS, rounds, BLOCK_BYTES)) as reading,
        started(system, python(ECHO, rounds * len(WORD) * WORDS)) as other,
        attached(system, reading.session_id, options={"sock": small_socket(system)}) as stalled,
    ):
        for viewer in (reading, other, stalled):
            await viewer.sees(b"ready")

        async def read_a_block(viewer: Viewer, block: int) -> None:
            await viewer.has(len(b"ready") + (block + 1) * BLOCK_BYTES)

        async def flood(block: int) -> None:
            await reading.type(b"x")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(read_a_block(reading, block))
                tasks.create_task(say_words(other))
                tasks.create_task(use_a_new_session(system))

        for block in range(WARM_ROUNDS):
            await flood(block)
            await read_a_block(stalled, block)
        before_bytes = held_bytes(hq_pid)
        stalled.socket.transport.pause_reading()
        stalled_s = loop.time()
        most_bytes = 0
        for block in range(WARM_ROUNDS, rounds):
            await flood(block)
            most_bytes = max(most_bytes, held_bytes(hq_pid))
            # Who says nothing for 10 s is cut off; a page does this, however slow its terminal is.
            await stalled.say("ping")
            await asyncio.sleep(ROUND_S)  # it does not read for so long
        assert loop.time() - stalled_s > ROUNDS * ROUND_S
        stalled.socket.transport.resume_reading()
        await reading.type(b"x")
        assert await reading.ends() == (0, None)
        assert await stalled.ends() == (0, None)
        assert await other.ends() == (0, None)
    shown = b"".join(stream(block, BLOCK_BYTES) for block in range(rounds))
    print(f"\nHQ's memory grew by {(most_bytes - before_bytes) >> 10} KiB")
    assert reading.output == b"ready" + shown
    assert stalled.offset == reading.offset
    assert reading.output.endswith(stalled.output)
    assert most_bytes - before_bytes <= GROWTH_BYTES


async def test_a_paste_is_whole_though_control_moves_before_it_is_read(system: System) -> None:
    paste = stream("paste", PASTE_BYTES)
    keys, late = b"keys of the other", b"sent by nobody"
    n_bytes = len(paste) + len(keys) + len(late)
    async with (
        started(system, python(READ_IN_TWO, PASTE_BYTES // 4, n_bytes), viewer="first") as first,
        attached(system, first.session_id, viewer="other") as other,
    ):
        await first.sees(b"ready")
        await first.type(paste)
        await is_taken(first, PASTE_BYTES)
        await other.sees(b"half")
        await take_control(other)
        for key in keys:
            await other.type(bytes([key]))
        await is_taken(other, len(keys))
        assert post_input(system, first.session_id, late) == 204
        await first.type(b"typed without control")
        assert (await first.hears("error"))["code"] == "not_in_control"
        system.signal(first.session_id, "USR1")
        assert await first.ends() == (0, None)
        assert await other.ends() == (0, None)
    assert first.output == b"readyhalf" + paste + keys + late
    assert other.output == first.output


async def test_input_of_the_api_is_never_inside_a_message(system: System) -> None:
    paste = stream("paste", PASTE_BYTES)
    early, late = b"early", b"late"
    command = python(READ_IN_TWO, 1, len(early) + PASTE_BYTES + len(late))
    async with started(system, command, viewer="pastes") as viewer:

        async def halves() -> AsyncIterator[bytes]:
            yield paste[: PASTE_BYTES // 2]
            await (await viewer.socket.ping())  # HQ has that half
            assert post_input(system, viewer.session_id, early) == 204
            await viewer.sees(b"half")
            yield paste[PASTE_BYTES // 2 :]

        await viewer.sees(b"ready")
        await viewer.socket.send(halves())
        await is_taken(viewer, PASTE_BYTES)
        system.signal(viewer.session_id, "USR1")
        until("room behind the paste", lambda: post_input(system, viewer.session_id, late) == 204)
        assert await viewer.ends() == (0, None)
    assert viewer.output == b"readyhalf" + early + paste + late


async def test_a_message_during_which_control_moves_is_refused_whole(system: System) -> None:
    keys = b"keys of the other"
    async with (
        started(system, python(READ_IN_TWO, 1, len(keys))) as first,
        attached(system, first.session_id) as other,
    ):

        async def halves() -> AsyncIterator[bytes]:
            yield stream("paste", PASTE_BYTES // 2)
            await (await first.socket.ping())  # HQ has that half
            await take_control(other)
            await other.type(keys)
            await other.sees(b"half")
            yield stream("paste", PASTE_BYTES // 2)

        await first.sees(b"ready")
        await first.socket.send(halves())
        assert (await first.hears("error"))["code"] == "not_in_control"
        system.signal(first.session_id, "USR1")
        assert await first.ends() == (0, None)
    assert first.output == b"readyhalf" + keys


async def test_little_comes_after_ctrl_c_in_a_flood(system: System) -> None:
    shell = ["/bin/bash", "--noprofile", "--norc", "-i"]
    async with started(system, shell, env={"PS1": "what else? "}) as viewer:

        async def show_slowly() -> None:
            """Take a message as a slow terminal does, and ack it."""
            before = viewer.offset
            assert await viewer.receive()
            await asyncio.sleep((viewer.offset - before) / SHOWN_BYTES_PER_S)  # so long it draws
            await viewer.say("ack", offset=viewer.offset)

        await viewer.sees(b"what else? ")
        await viewer.type(b"yes an answer of a length that is usual for a line of a terminal\r")
        while viewer.offset < FLOOD_BYTES:
            await show_slowly()
        at_ctrl_c = viewer.offset
        await viewer.type(b"\x03")
        while b"what else? " not in viewer.output[at_ctrl_c:]:
            await show_slowly()
        print(f"\n{viewer.offset - at_ctrl_c} bytes came after Ctrl-C")
        assert viewer.offset - at_ctrl_c <= AFTER_CTRL_C_BYTES
        await viewer.type(b"exit\r")
        assert await viewer.ends() == (130, None)
