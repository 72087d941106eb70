"""scripts/require.sh names what is missing on this machine, all at once, in one line."""

import shutil
import subprocess
from pathlib import Path

import pytest

REQUIRE = Path(__file__).resolve().parents[2] / "scripts/require.sh"


class Machine:
    """A PATH with nothing but a shell, and what a test adds to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("sh", "sed"):
            (path / name).symlink_to(shutil.which(name) or name)

    def add(self, name: str, script: str = "exit 0") -> None:
        (self.path / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.path / name).chmod(0o755)

    def add_node(self, version: str) -> None:
        # `node -e` is asked whether the version will do; only the real one can tell.
        self.add("node", f'[ "$1" = --version ] && echo v{version} || exec {shutil.which("node")} "$@"')
        self.add("npm")

    def require(self, *tools: str) -> tuple[int, str]:
        done = subprocess.run(
            ["sh", REQUIRE, *tools], env={"PATH": str(self.path)}, capture_output=True, text=True, check=False
        )
        assert done.stdout == ""
        return done.returncode, done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_silent_where_nothing_is_missing(machine: Machine) -> None:
    machine.add("cc")
    machine.add("python3")
    machine.add_node("20.19.0")
    assert machine.require("python", "cc", "node") == (0, "")


def test_names_everything_at_once(machine: Machine) -> None:
    status, text = machine.require("python", "cc", "node")
    assert status == 1
    assert text == (
        "Missing: Python 3.11 or newer (PYTHON=... names another than python3), a C compiler, "
        "Node 20.19 or newer with npm. Install with: apt install python3 gcc; "
        "Node: https://nodejs.org/en/download (Debian 12's own is 18)\n"
    )


@pytest.mark.parametrize(
    ("lacking", "text"),
    [
        ("ensurepip", "Missing: Python's venv module. Install with: apt install python3-venv\n"),
        ("Python.h", "Missing: Python's C headers. Install with: apt install python3-dev\n"),
    ],
)
def test_names_what_debian_packs_apart_from_python(machine: Machine, lacking: str, text: str) -> None:
    machine.add("python3", f'case "$2" in *{lacking}*) exit 1 ;; esac')
    assert machine.require("python") == (1, text)


def test_says_which_node_is_too_old(machine: Machine) -> None:
    machine.add("npm")
    machine.add("node", '[ "$1" = --version ] && echo v18.19.0; exit 1')
    status, text = machine.require("node")
    assert status == 1
    assert text == (
        "Missing: Node 20.19 or newer with npm (this one is v18.19.0). "
        "Install from: https://nodejs.org/en/download (Debian 12's own is 18)\n"
    )
