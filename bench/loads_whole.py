"""Loads of AgentRelay alone: what the others have nothing like, and what it costs to do nothing."""

import json
import subprocess
import time

from bench.corpus import corpus
from bench.loads import (
    Bench,
    Metrics,
    Usage,
    bulk,
    bulk_recorded,
    echo,
    echo_in_flood,
    fifty_sessions,
    latency,
    paced,
    stalled_viewer,
    tiny,
    twenty_viewers,
    two_hundred_sessions,
)
from bench.native import program
from bench.processes import Memory, Processes, memory
from bench.systems import PROBED, RUNNER_TOKEN, Product, System, view
from bench.viewers import draining

REQUESTS_PER_S = 200


def _product(system: System) -> Product:
    assert isinstance(system, Product)
    return system


def _start_idle(
    processes: Processes, product: Product, n_runners: int, n_sessions: int, *, history_bytes: int = 0
) -> None:
    """Give HQ so many more sessions, spread over so many more runners, all idle after some output."""
    with product.rest() as rest:
        before = sum(runner["online"] for runner in rest.call("GET", "/api/runners")["runners"])
        processes.start("idle", "python", "-m", "bench.idle", str(product.port), RUNNER_TOKEN, str(n_runners))
        product.await_runners(before + n_runners)
        for number in range(n_sessions):
            wish = {"runner_id": f"idle-{number % n_runners}", "command": [str(history_bytes)]}
            rest.call("POST", "/api/sessions", wish)


def _ask_steadily(processes: Processes, product: Product) -> subprocess.Popen[bytes]:
    port = str(product.port)
    return processes.start("rest", "python", "-m", "bench.rest", port, product.token, str(REQUESTS_PER_S))


def echo_with_rest(bench: Bench, system: System) -> Metrics:
    """One key at a time while 200 REST requests a second are answered, lists of 500 sessions among them."""
    del system
    with Processes(bench.processes.subdirectory()) as processes:
        product = Product(processes, parts=bench.parts)
        _start_idle(processes, product, 1, 500)
        asking = _ask_steadily(processes, product)
        time.sleep(0.5)
        found = latency(product, bench._replace(processes=processes), count=bench.amount(1500), gap_us=1000)
        if asking.poll() is not None:
            raise RuntimeError((processes.directory / "rest.out").read_text())
    return found


def attach_to_history(bench: Bench, system: System) -> Metrics:
    """Attach to a session with 100 MB of recorded history."""
    product = _product(system)
    n_bytes = bench.amount(100) << 20
    command = [program("program"), "bulk", str(corpus()), str(n_bytes)]
    writer = view(bench.processes, system, draining(n_bytes), [product.starting(command, recording=True)])
    try:
        with product.rest() as rest:
            session_id = rest.call("GET", "/api/sessions")["sessions"][-1]["session_id"]
        writer.go()
        writer.result()
        before = memory(product.pids["hq"]).pss
        usage = Usage(product)
        start_s = time.monotonic()
        # What comes is a screen, of which nothing but its size is known: take one byte of it.
        n_attached = _attach(product, session_id)
        attached_s = time.monotonic() - start_s
        seconds = usage.seconds()["hq"]
        growth = memory(product.pids["hq"]).pss - before
    finally:
        writer.close()
    return {
        "attach_ms": attached_s * 1e3,
        "hq_cpu_ms": seconds * 1e3,
        "replay_kb": n_attached / 1e3,
        "growth_mb": growth / 1e6,
    }


def _attach(product: Product, session_id: str) -> int:
    """Attach without an offset; gives the size of the replay once all of it is here."""
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{product.port}/ws/session/{session_id}"
    headers = {"Authorization": f"Bearer {product.token}"}
    with connect(url, additional_headers=headers, compression=None, max_size=None) as viewer:
        viewer.send('{"type": "attach", "payload": {}}')
        wanted = -1
        got = 0
        while got < wanted or wanted < 0:
            message = viewer.recv(30)
            if isinstance(message, bytes):
                got += len(message)
            elif (control := json.loads(message))["type"] == "attached":
                wanted = control["payload"]["replay"]["bytes"]
    return got


def idle(bench: Bench, system: System) -> Metrics:
    """What processes hold that have nothing to do, and what 100 idle sessions add: PTYs, logs and all."""
    del system
    n_sessions = bench.amount(100)
    with Processes(bench.processes.subdirectory()) as processes:
        product = Product(processes, parts=bench.parts)
        time.sleep(1.0)
        empty = _memories(product)
        wish = {"runner_id": "bench", "command": [program("program"), "echo"]}
        with product.rest() as rest:
            for _ in range(n_sessions):
                rest.call("POST", "/api/sessions", wish)
        time.sleep(4.0)  # memory is given back after 2 s of silence
        full = _memories(product)
    found = {f"{part}_rss_mb": held.rss / 1e6 for part, held in empty.items()}
    per_session = {part: (full[part].pss - empty[part].pss) / n_sessions / 1e3 for part in empty}
    return {
        **found,
        **{f"{part}_kb_per_session": each for part, each in per_session.items()},
        "kb_per_session": sum(per_session.values()),
    }


def _memories(product: Product) -> dict[str, Memory]:
    return {part: memory(pid) for part, pid in product.pids.items()}


def thousand_idle(bench: Bench, system: System) -> Metrics:
    """1,000 idle sessions over 100 runners."""
    del system
    return _many_idle(bench, history_bytes=0)


def thousand_with_history(bench: Bench, system: System) -> Metrics:
    """The same, each with 1 MB of history, recorded."""
    del system
    return _many_idle(bench, history_bytes=1_000_000)


def _many_idle(bench: Bench, *, history_bytes: int) -> Metrics:
    with Processes(bench.processes.subdirectory()) as processes:
        product = Product(processes, runner=False, parts=bench.parts)
        before = memory(product.pids["hq"]).pss
        _start_idle(processes, product, bench.amount(100), bench.amount(1000), history_bytes=history_bytes)
        time.sleep(4.0)
        usage = Usage(product)
        start_s = time.monotonic()
        time.sleep(max(3.0, 12 * bench.scale))
        seconds = usage.seconds()["hq"]
        held = memory(product.pids["hq"])
        return {
            "hq_core_share": seconds / (time.monotonic() - start_s),
            "hq_kb_per_session": (held.pss - before) / bench.amount(1000) / 1e3,
            "hq_rss_mb": held.rss / 1e6,
        }


EVERY_LOAD = (
    bulk,
    bulk_recorded,
    tiny,
    paced,
    echo,
    echo_in_flood,
    twenty_viewers,
    stalled_viewer,
    fifty_sessions,
    two_hundred_sessions,
    attach_to_history,
)
"""Every load through a PTY."""


def loop_stalls(bench: Bench, system: System) -> Metrics:
    """The longest turns of HQ's and the runner's loops, in CPU, and collections of garbage, under every load.

    500 idle sessions are there all the time, and 200 requests a second, a quarter of them for their list.
    """
    del system
    with Processes(bench.processes.subdirectory()) as processes:
        probed = bench._replace(processes=processes, parts=PROBED)
        product = Product(processes, parts=probed.parts)
        _start_idle(processes, product, 10, 500)
        _ask_steadily(processes, product)
        for load in EVERY_LOAD:
            load(probed, product)
        parts = product.stop(processes)
    metrics: Metrics = {}
    for part, found in parts.items():
        turns_us, gc_us = found["turns_us"], found["gc_us"]
        metrics |= {
            f"{part}_longest_turn_ms": max(turns_us, default=0) / 1e3,
            f"{part}_turns_over_5_ms": sum(turn > 5000 for turn in turns_us),
            f"{part}_longest_gc_ms": max((max(each, default=0) for each in gc_us), default=0) / 1e3,
            f"{part}_full_gcs": found["gc_counts"][2],
        }
    return metrics
