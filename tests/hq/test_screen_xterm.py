"""Snapshots mean the same to xterm.js, which is what viewers show them with.

Needs node and `npm ci` in web/. The two emulators differ in details that have nothing to do with snapshots,
so only the recordings are used in which they agree, and what they show is compared rather than how it came
about.
"""

import base64
import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrelay.hq.screen.local import LocalScreen

ROOT = Path(__file__).parents[2]
ORACLE = Path(__file__).parent / "xterm_oracle" / "oracle.mjs"
CORPORA = [path for path in sorted((ROOT / "bench" / "corpora").glob("*.bin")) if path.stem != "margins"]
CUTS = 4
HISTORY_LINES = 500
VARIATION_SELECTOR = "\ufe0f"  # xterm.js keeps one that libghostty-vt drops

Ask = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "web" / "node_modules" / "@xterm" / "headless").exists(),
    reason="needs node and web/node_modules",
)


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    process = subprocess.Popen(["node", ORACLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    requests, answers = process.stdin, process.stdout
    assert requests is not None
    assert answers is not None

    def ask(*pieces: bytes, rows: int = 24, cols: int = 80) -> dict[str, Any]:
        encoded = [base64.b64encode(piece).decode() for piece in pieces]
        requests.write(json.dumps({"rows": rows, "cols": cols, "pieces": encoded}).encode() + b"\n")
        requests.flush()
        state: dict[str, Any] = json.loads(answers.readline())
        return state

    yield ask
    requests.close()
    process.wait(timeout=30)
    answers.close()


def what_shows(state: dict[str, Any]) -> dict[str, Any]:
    is_alternate = state["active"] == "alternate"
    shown = {
        "alternate": is_alternate,
        "title": state["title"],
        "modes": state["modes"] | {"synchronizedOutputMode": None},
        "cursor": state["alternate" if is_alternate else "normal"]["cursor"],
    }
    for name in ("normal", "alternate") if is_alternate else ("normal",):
        base, lines = state[name]["base"], state[name]["lines"]
        for line in lines:
            line["text"] = line["text"].replace(VARIATION_SELECTOR, "")
            # An erase at the end of a full line spares the last column in one of them.
            line["looks"] = line["looks"].split(",")[:-1]
            del line["wrapped"]  # of a line in the middle of a screen it may stay set when it is printed over
        shown[name] = {"history": lines[:base][-HISTORY_LINES:], "screen": lines[base:]}
    return shown


def snapshot_at(data: bytes, cut: int, *, rows: int = 24, cols: int = 80) -> bytes:
    screen = LocalScreen(rows=rows, cols=cols)
    screen.feed(data[:cut])
    snapshot = screen.snapshot()
    assert snapshot is not None
    return snapshot


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_xterm_js_can_join_a_recording_anywhere(corpus: Path, ask: Ask) -> None:
    data = corpus.read_bytes()
    whole = what_shows(ask(data))
    pick = random.Random(corpus.stem)
    for cut in (pick.randrange(len(data)) for _ in range(CUTS)):
        snapshot = snapshot_at(data, cut)
        assert what_shows(ask(snapshot)) == what_shows(ask(data[:cut]))
        assert what_shows(ask(snapshot, data[cut:])) == whole


def test_xterm_js_keeps_lines_together_that_wrap(ask: Ask) -> None:
    data = ("word " * 40 + "\r\n" + "x" * 80 + "\r\nshort\r\n").encode() * 10
    snapshot = snapshot_at(data, len(data))
    whole, resumed = (
        [line["wrapped"] for line in ask(piece)["normal"]["lines"]] for piece in (data, snapshot)
    )
    assert resumed == whole
    assert sum(whole) > 10


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("e", "\u0301 acute"),
        ("-", "\x1b[20b"),
        ("0123456789" * 2, "wrapped"),
        ("\x1b[42m" + "0123456789" * 2, "wrapped"),
        ("0" * 19, "漢"),
        ("\x1b(0lqk", "qj\x1b(B plain"),
        ("\x1b[?1049h\x1b[3;3Halternate", "\x1b[?1049lback"),
        ("\x1b[2;4r\x1b[4;1H", "\n\nscrolled"),
        ("\x1b[3;5H\x1b[31m\x1b7\x1b[m\x1b[H", "\x1b8red"),
        ("\r\n" * 5 + "\x1b[44m" + "x" * 25, "\x1b[m\x1b[2Kgone"),
        ("\x1b[38;2;10;20", ";30mcolour"),
        ("\x1b[3g\x1b[5G\x1bH\x1b[1G", "\tat five"),
    ],
)
def test_xterm_js_goes_on_from_a_snapshot(before: str, after: str, ask: Ask) -> None:
    snapshot = snapshot_at(before.encode(), len(before.encode()), rows=4, cols=20)
    whole = ask(before.encode(), after.encode(), rows=4, cols=20)
    assert what_shows(ask(snapshot, after.encode(), rows=4, cols=20)) == what_shows(whole)
