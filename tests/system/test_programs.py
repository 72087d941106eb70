"""What a program finds: its environment, its parent, answers to what it asks, and all of its input."""

import asyncio
import json
import resource

from tests.system.running import ADMIN_TOKEN, RUNNER_TOKEN, System, until
from tests.system.test_bytes import ECHO
from tests.system.viewing import python, sha, started, stream

PROMPT_S = 2.0

LOOK = "import json, os; print(json.dumps([dict(os.environ), os.getppid(), os.getcwd()]))"

# Asks twice, so that an answer too many to the first question cannot hide behind the second.
ASK = """
import os, select, sys, tty
tty.setraw(0)
got = b""
for place in (b"1;1", b"5;7"):
    os.write(1, b"\\x1b[" + place + b"H\\x1b[6n")
    before = got.count(b"R")
    while got.count(b"R") == before:
        got += os.read(0, 1024)
while select.select([0], [], [], 0.3)[0]:
    got += os.read(0, 1024)
os.write(1, b"got " + repr(got).encode() + b"\\r\\n")
"""

READ_LATER = """
import hashlib, os, signal, sys, tty
tty.setraw(0)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.write(1, b"ready")
signal.sigwait([signal.SIGUSR1])
data = b""
while len(data) < int(sys.argv[1]):
    data += os.read(0, 65536)
os.write(1, hashlib.sha256(data).hexdigest().encode())
"""


async def test_a_program_sees_a_terminal_and_no_secrets(system: System) -> None:
    async with started(system, python(LOOK), cols=1000, cwd="/tmp", env={"OURS": "1"}) as viewer:
        assert await viewer.ends() == (0, None)
    environment, parent, cwd = json.loads(viewer.output)
    assert environment["TERM"] == "xterm-256color"
    assert environment["OURS"] == "1"
    assert [name for name in environment if name == "RUNNER_TOKEN" or name.startswith("AGENTRELAY_")] == []
    assert not {ADMIN_TOKEN, RUNNER_TOKEN} & set(environment.values())
    assert parent == system.keeper_pid()
    assert cwd == "/tmp"


async def test_hq_answers_a_program_that_nobody_looks_at(system: System) -> None:
    session_id = system.post_session(*python(ASK))["session_id"]
    until("end", lambda: system.session(session_id)["state"] == "ended")
    assert system.session(session_id)["exit_code"] == 0
    assert system.output(session_id).endswith(rb"got b'\x1b[1;1R\x1b[5;7R'" + b"\r\n")


async def test_hq_does_not_answer_for_the_viewer_in_control(system: System) -> None:
    async with started(system, python(ASK)) as viewer:
        await viewer.sees(b"\x1b[1;1H\x1b[6n")
        await viewer.type(b"\x1b[8;8R")
        await viewer.sees(b"\x1b[5;7H\x1b[6n")
        await viewer.type(b"\x1b[9;9R")
        await viewer.ends()
    assert viewer.output.endswith(rb"got b'\x1b[8;8R\x1b[9;9R'" + b"\r\n")


async def test_input_that_is_not_read_disturbs_nobody_and_all_arrives(system: System) -> None:
    pasted = stream("pasted", 1 << 20)
    loop = asyncio.get_running_loop()
    async with (
        started(system, python(READ_LATER, len(pasted))) as viewer,
        started(system, python(ECHO, 3 * 10)) as other,
    ):
        await viewer.sees(b"ready")
        await other.sees(b"ready")
        await viewer.type(pasted)
        for number in range(10):
            asked_s = loop.time()
            assert (await asyncio.to_thread(system.http.get, "/health")).status_code == 200
            await other.echoes(b"<%d>" % number)
            assert loop.time() - asked_s < PROMPT_S
        assert await other.ends() == (0, None)
        system.signal(viewer.session_id, "USR1")
        assert await viewer.ends() == (0, None)
    assert viewer.output == b"ready" + sha(pasted).encode()


async def test_a_program_may_open_the_usual_number_of_files(own_system: System) -> None:
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, most))
    try:
        own_system.start_hq()
        own_system.start_runner()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))

    assert own_system.hq is not None
    for process in (own_system.hq, own_system.runners["r1"]):
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0] > 500
    async with started(own_system, ["/bin/sh", "-c", "ulimit -n"]) as viewer:
        assert await viewer.ends() == (0, None)
    assert viewer.output == b"500\r\n"
