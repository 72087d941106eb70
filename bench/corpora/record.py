"""Records the corpora: the output of real programs on a PTY of 24 rows and 80 columns.

    python bench/corpora/record.py [name ...]

Needs root, for namespaces that hide this machine from the recordings, and bash, vim, less, htop, top, mc and
tmux. A recording is what the PTY gave, byte for byte; it differs a little from run to run, so a new one is
committed only for a reason.
"""

import os
import select
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ptyprocess import PtyProcess  # type: ignore[import-untyped]

HERE = Path(__file__).parent
ROWS, COLS = 24, 80
QUIET_S = 0.4
LONGEST_S = 8.0

SOURCE = "errors.py"
ALONE = [
    "unshare",
    "--pid",
    "--uts",
    "--mount-proc",
    "--fork",
    "sh",
    "-c",
    'hostname host && exec "$@"',
    "sh",
]

# Each step is typed once the program has been quiet for a while.
SCRIPTS: dict[str, tuple[list[str], list[str]]] = {
    "shell": (
        ["bash", "--norc", "-i"],
        [
            "PS1='\\[\\e]0;\\w\\a\\e[1;32m\\]\\u@host\\[\\e[0m\\]:\\[\\e[1;34m\\]\\w\\[\\e[0m\\]$ '\r",
            "ls --color=always -la /usr /etc | head -60\r",
            f"head -40 {SOURCE}\r",
            "printf '%0.s-' {1..300}; echo\r",
            "for i in $(seq 200); do echo \"line $i of a longer scrollback\"; done\r",
            "echo long $(seq 1 120)\x01\x06\x06\x06\x05\x17\x17\x17 typed again\r",
            "exit\r",
        ],
    ),
    "vim": (
        ["vim", "-N", "-u", "NONE", "-c", "syntax on", "-c", "set number ruler", SOURCE],
        ["\x06", "\x06", "\x02", "/class\r", "nnn", ":vsplit\r", ":split\r", "ggOtyped in insert mode\x1b",
         "5dd", "u", ":set nonumber list\r", "\x17w", "G", "vkkkkd", ":help\r", "\x06\x06", ":qa!\r"],
    ),
    "less": (
        ["less", "-N", SOURCE],
        [" ", " ", "b", "j", "j", "k", "/Error\r", "n", "n", "G", "g", "u", "-S\r", "q"],
    ),
    "htop": (["htop", "-d", "5"], ["", "\x1b[B\x1b[B", "\x1b[6~", "t", "\x1bOQ", "\x1b", "\x1b", "q"]),
    "top": (["top", "-d", "0.5"], ["", "c", "1", "z", "q"]),
    "mc": (
        ["mc", "--nomouse", "-u", "/usr", "/etc"],
        ["\t", "\x1b[B\x1b[B\x1b[B", "\x1b9", "\r", "\x1b[B", "\x1b\x1b", "\x0f", "\x0f", "\x1b0", "\r"],
    ),
    "tmux": (
        ["tmux", "-L", "corpus", "-f", "/dev/null", "new", "bash --norc"],
        ["ls /usr/lib | head -40\r", "\x02%", "seq 100\r", '\x02"', "top -n 2 -d 0.3\r", "q", "\x02o",
         "clear\r", "\x02:kill-server\r", ""],
    ),
    "unicode": ([sys.executable, str(HERE / "programs.py"), "unicode"], []),
    "colors": ([sys.executable, str(HERE / "programs.py"), "colors"], []),
    "regions": ([sys.executable, str(HERE / "programs.py"), "regions"], []),
    "margins": ([sys.executable, str(HERE / "programs.py"), "margins"], []),
    "agent": ([sys.executable, str(HERE / "programs.py"), "agent"], []),
    "fullscreen": ([sys.executable, str(HERE / "programs.py"), "fullscreen"], []),
}  # fmt: skip


def read_until_quiet(process: PtyProcess) -> bytes:
    """Read until nothing came for a while, or the program has ended, or it never is quiet."""
    out = b""
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        if not select.select([process.fd], [], [], QUIET_S)[0]:
            return out
        try:
            out += os.read(process.fd, 65536)
        except OSError:
            return out
    return out


def record(name: str) -> bytes:
    """Run a script and give what the program wrote."""
    command, steps = SCRIPTS[name]
    with tempfile.TemporaryDirectory() as home:
        env = {
            "HOME": home,
            "PATH": os.environ["PATH"],
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "LANG": "C.UTF-8",
            "USER": "user",
            "PYTHONPATH": "",
        }
        shutil.copy(HERE.parent.parent / "agentrelay" / "errors.py", home)
        process = PtyProcess.spawn(ALONE + command, cwd=home, env=env, dimensions=(ROWS, COLS))
        out = read_until_quiet(process)
        for step in steps:
            os.write(process.fd, step.encode())
            out += read_until_quiet(process)
        process.close(force=True)
    return out


def main() -> None:
    """Record what is named, or everything."""
    for name in sys.argv[1:] or SCRIPTS:
        data = record(name)
        (HERE / f"{name}.bin").write_bytes(data)
        print(f"{name}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
